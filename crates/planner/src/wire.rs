//! How this crate's operators look inside an encoded plan.
//!
//! Field numbers are the format; a change that an older node would misread needs a new number.

use datafusion_proto::protobuf;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(crate) kind: Option<Kind>,
}

#[allow(clippy::large_enum_variant, reason = "one is made for each operator, and dropped at once")]
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Input(Input),
    #[prost(message, tag = "2")]
    Output(Output),
    #[prost(message, tag = "3")]
    Recursive(Recursive),
    #[prost(message, tag = "4")]
    WorkTable(WorkTable),
    #[prost(message, tag = "5")]
    PartitionedTopK(PartitionedTopK),
    /// An operator of the embedding program, as its own codec wrote it.
    #[prost(bytes, tag = "6")]
    Foreign(Vec<u8>),
    #[prost(message, tag = "7")]
    Forget(Forget),
    #[prost(message, tag = "8")]
    Write(Write),
    #[prost(message, tag = "9")]
    KeySummary(Keys),
    #[prost(message, tag = "10")]
    RuntimeFilter(Keys),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Input {
    #[prost(uint32, tag = "1")]
    pub(crate) stage: u32,
    /// Every upstream task's partition 0, instead of one partition of every upstream task.
    #[prost(bool, tag = "2")]
    pub(crate) all: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) schema: Option<protobuf::Schema>,
    #[prost(message, optional, tag = "4")]
    pub(crate) partitioning: Option<protobuf::Partitioning>,
    /// Each holds for every partition.
    #[prost(message, repeated, tag = "5")]
    pub(crate) orderings: Vec<Ordering>,
    /// Expressions of one class are equal in every row.
    #[prost(message, repeated, tag = "6")]
    pub(crate) classes: Vec<Exprs>,
    #[prost(message, optional, tag = "7")]
    pub(crate) constant_everywhere: Option<Exprs>,
    /// Constant within each partition.
    #[prost(message, optional, tag = "8")]
    pub(crate) constant_per_partition: Option<Exprs>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ordering {
    #[prost(message, repeated, tag = "1")]
    pub(crate) keys: Vec<protobuf::PhysicalSortExprNode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Exprs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) exprs: Vec<protobuf::PhysicalExprNode>,
}

/// `exchange`: 1 hash, 2 round-robin, 3 single, 4 merge, 5 broadcast, 6 result.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Output {
    #[prost(uint32, tag = "1")]
    pub(crate) stage: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) exchange: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) partitions: u32,
    #[prost(message, repeated, tag = "4")]
    pub(crate) hash: Vec<protobuf::PhysicalExprNode>,
}

/// `WITH RECURSIVE`: the two terms are the node's inputs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Recursive {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bool, tag = "2")]
    pub(crate) is_distinct: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) schema: Option<protobuf::Schema>,
}

/// The rows of the last iteration of the recursive query of that name. DataFusion hides which columns it keeps, so
/// its schema says so: names are unique in a table.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WorkTable {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) schema: Option<protobuf::Schema>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartitionedTopK {
    #[prost(message, repeated, tag = "1")]
    pub(crate) keys: Vec<protobuf::PhysicalSortExprNode>,
    #[prost(uint64, tag = "2")]
    pub(crate) partition_keys: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) fetch: u64,
    /// Ties at the last place stay, as `RANK` wants.
    #[prost(bool, tag = "4")]
    pub(crate) rank: bool,
}

/// The rows of its input, and nothing known of them, or all but which columns are constant.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Forget {
    #[prost(bool, tag = "1")]
    pub(crate) constants_only: bool,
}

/// Columns of the first input.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Keys {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) columns: Vec<u32>,
    /// Of a summary: with more keys it tells none. Absent from stages of before there was one.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) limit: Option<u64>,
}

/// The fields of a `WriteTarget`, and DataFusion's writer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Write {
    #[prost(string, tag = "1")]
    pub(crate) url: String,
    #[prost(string, tag = "2")]
    pub(crate) extension: String,
    #[prost(bool, tag = "3")]
    pub(crate) single_file: bool,
    #[prost(oneof = "WriteFormat", tags = "4, 5, 6")]
    pub(crate) format: Option<WriteFormat>,
    #[prost(uint32, optional, tag = "7")]
    pub(crate) compression_level: Option<u32>,
}

#[allow(clippy::large_enum_variant, reason = "one is made for each statement that writes")]
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WriteFormat {
    #[prost(message, tag = "4")]
    Parquet(protobuf::ParquetSink),
    #[prost(message, tag = "5")]
    Csv(protobuf::CsvSink),
    #[prost(message, tag = "6")]
    Json(protobuf::JsonSink),
}
