//! Tables inside of logical plans.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    ipc::{
        CompressionType,
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use datafusion::{
    catalog::{MemTable, TableProvider},
    common::{DataFusionError, Result, TableReference, exec_err, plan_err},
    datasource::file_format::FileFormatFactory,
    execution::TaskContext,
    logical_expr::{AggregateUDF, Extension, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF},
};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use polybolos_planner::{Extensions, TABLES_ROOM, check_stream};

/// Largest in-memory table that travels inside of a plan, encoded. Larger ones belong into files.
pub const MAX_MEMORY_TABLE_BYTES: usize = 8 * 1024 * 1024;

/// First byte of an encoded table: who reads the rest. Never renumber: clients and nodes may differ in version.
const BY_PROGRAM: u8 = 1;
const BY_NAME: u8 = 2;
const BY_VALUE: u8 = 3;

/// `extensions` whose nodes also read in-memory tables and the extension's own tables. Giving it twice changes
/// nothing.
pub fn with_table_codec(mut extensions: Extensions) -> Extensions {
    let inner = extensions.logical_codec();
    let is_ours = (inner.as_ref() as &dyn std::any::Any).is::<TableCodec>();
    if !is_ours {
        extensions.logical_codec = Some(Arc::new(TableCodec { tables: extensions.tables.clone(), inner }));
    }
    extensions
}

/// Encodes the tables of extensions by name and in-memory tables by value; leaves the rest to another codec.
pub struct TableCodec {
    tables: Vec<(String, Arc<dyn TableProvider>)>,
    inner: Arc<dyn LogicalExtensionCodec>,
}

impl fmt::Debug for TableCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableCodec").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl LogicalExtensionCodec for TableCodec {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], ctx: &TaskContext) -> Result<Extension> {
        self.inner.try_decode(buf, inputs, ctx)
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode(node, buf)
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        table_ref: &TableReference,
        schema: SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match buf.split_first() {
            Some((&BY_PROGRAM, rest)) => self.inner.try_decode_table_provider(rest, table_ref, schema, ctx),
            Some((&BY_NAME, rest)) => self.by_name(rest),
            Some((&BY_VALUE, rest)) => by_value(rest, schema),
            _ => plan_err!("table '{table_ref}' is encoded in a way that this version doesn't know"),
        }
    }

    fn try_encode_table_provider(
        &self,
        table_ref: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some((name, _)) = self.tables.iter().find(|(_, table)| Arc::ptr_eq(table, &node)) {
            buf.push(BY_NAME);
            buf.extend_from_slice(name.as_bytes());
            return Ok(());
        }
        let start = buf.len();
        buf.push(BY_PROGRAM);
        let Err(refusal) = self.inner.try_encode_table_provider(table_ref, Arc::clone(&node), buf) else {
            return Ok(());
        };
        buf.truncate(start);
        let Some(table) = node.downcast_ref::<MemTable>() else {
            return plan_err!(
                "table '{table_ref}' can't be sent to the cluster ({}): give it to Extensions::tables on the nodes \
                 and to distribute(), or give both a logical codec that encodes it",
                refusal.strip_backtrace()
            );
        };
        buf.push(BY_VALUE);
        encode_rows(table_ref, table, buf)
    }

    fn try_decode_file_format(&self, buf: &[u8], ctx: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.inner.try_decode_file_format(buf, ctx)
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, node: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.inner.try_encode_file_format(buf, node)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.inner.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_higher_order_function(&self, name: &str, buf: &[u8]) -> Result<Arc<HigherOrderUDF>> {
        self.inner.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_higher_order_function(&self, node: &HigherOrderUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}

impl TableCodec {
    fn by_name(&self, name: &[u8]) -> Result<Arc<dyn TableProvider>> {
        let name = String::from_utf8_lossy(name);
        match self.tables.iter().find(|(known, _)| *known == name) {
            Some((_, table)) => Ok(Arc::clone(table)),
            None => {
                plan_err!("this node has no table '{name}': register it in Extensions::tables on every node")
            }
        }
    }
}

/// Appends, for each partition, its length (8 bytes, little endian) and an Arrow IPC stream.
fn encode_rows(table_ref: &TableReference, table: &MemTable, buf: &mut Vec<u8>) -> Result<()> {
    let start = buf.len();
    for partition in &table.batches {
        let Ok(batches) = partition.try_read() else {
            return exec_err!("in-memory table '{table_ref}' is being written; try again");
        };
        let rows = encode_partition(&table.schema(), &batches)?;
        if buf.len() - start + rows.len() > MAX_MEMORY_TABLE_BYTES {
            return plan_err!(
                "in-memory table '{table_ref}' is larger than the {MAX_MEMORY_TABLE_BYTES} bytes that may travel \
                 with a query: write it to files that the cluster can reach"
            );
        }
        buf.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        buf.extend_from_slice(&rows);
    }
    Ok(())
}

fn encode_partition(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(vec![], schema, options)?;
    for batch in batches {
        writer.write(batch)?;
        if writer.get_ref().len() > MAX_MEMORY_TABLE_BYTES {
            break; // the caller refuses it
        }
    }
    Ok(writer.into_inner()?)
}

fn by_value(mut bytes: &[u8], schema: SchemaRef) -> Result<Arc<dyn TableProvider>> {
    let truncated = || DataFusionError::Plan("an in-memory table in the plan is cut short".to_owned());
    let (mut partitions, mut room) = (Vec::new(), TABLES_ROOM);
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| truncated())?;
        let (rows, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
        check_stream(rows, &mut room)?;
        partitions.push(StreamReader::try_new(rows, None)?.collect::<Result<Vec<_>, _>>()?);
        bytes = rest;
    }
    if !bytes.is_empty() {
        return Err(truncated());
    }
    Ok(Arc::new(MemTable::try_new(schema, partitions)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::{
        catalog::streaming::StreamingTable, datasource::provider_as_source, logical_expr::LogicalPlanBuilder,
        prelude::SessionContext,
    };
    use datafusion_proto::bytes::{
        logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
    };

    use super::*;

    fn rows(values: Vec<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
    }

    /// A kind of table that datafusion-proto doesn't know.
    fn stream() -> StreamingTable {
        StreamingTable::try_new(rows(vec![]).schema(), vec![]).unwrap()
    }

    fn codec(extensions: Extensions) -> Arc<dyn LogicalExtensionCodec> {
        with_table_codec(extensions).logical_codec()
    }

    fn scan(table: Arc<dyn TableProvider>) -> LogicalPlan {
        LogicalPlanBuilder::scan("t", provider_as_source(table), None).unwrap().build().unwrap()
    }

    #[tokio::test]
    async fn an_in_memory_table_travels_with_its_partitions() {
        let (a, b) = (rows(vec![1, 2]), rows(vec![3]));
        let table = MemTable::try_new(a.schema(), vec![vec![a], vec![], vec![b]]).unwrap();
        let codec = codec(Extensions::default());
        let bytes =
            logical_plan_to_bytes_with_extension_codec(&scan(Arc::new(table)), codec.as_ref()).unwrap();
        let ctx = SessionContext::new();
        let plan =
            logical_plan_from_bytes_with_extension_codec(&bytes, &ctx.task_ctx(), codec.as_ref()).unwrap();
        let frame = ctx.execute_logical_plan(plan).await.unwrap();
        assert_eq!(frame.count().await.unwrap(), 3);
    }

    #[test]
    fn a_table_of_an_extension_travels_by_name_and_must_be_there() {
        let table: Arc<dyn TableProvider> = Arc::new(stream());
        let known =
            Extensions { tables: vec![("special".to_owned(), Arc::clone(&table))], ..Default::default() };
        let codec = codec(known);
        let bytes = logical_plan_to_bytes_with_extension_codec(&scan(table), codec.as_ref()).unwrap();
        let ctx = SessionContext::new().task_ctx();
        logical_plan_from_bytes_with_extension_codec(&bytes, &ctx, codec.as_ref()).unwrap();
        let elsewhere = with_table_codec(Extensions::default()).logical_codec();
        let error =
            logical_plan_from_bytes_with_extension_codec(&bytes, &ctx, elsewhere.as_ref()).unwrap_err();
        assert!(error.to_string().contains("no table 'special'"), "{error}");
    }

    #[test]
    fn a_table_that_is_too_large_or_of_an_unknown_kind_is_refused() {
        // Random enough not to compress.
        let noise = |n: i64| (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rotate_left(17);
        let large = rows((0..2_000_000).map(noise).collect());
        let large = MemTable::try_new(large.schema(), vec![vec![large]]).unwrap();
        let codec = codec(Extensions::default());
        let refusal = |table| {
            let error = logical_plan_to_bytes_with_extension_codec(&scan(table), codec.as_ref()).unwrap_err();
            error.to_string()
        };
        let error = refusal(Arc::new(large));
        assert!(error.contains("larger than"), "{error}");
        let error = refusal(Arc::new(stream()));
        assert!(error.contains("table 't' can't be sent to the cluster"), "{error}");
    }

    /// Arrow's reader takes a length at its word, and a process that is refused so much memory aborts.
    #[test]
    fn a_table_that_claims_more_than_it_has_is_refused() {
        let batch = rows(vec![7; 1_000]);
        let stream = encode_partition(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
        let framed = |stream: &[u8]| [&(stream.len() as u64).to_le_bytes(), stream].concat();
        assert!(by_value(&framed(&stream), batch.schema()).is_ok());
        let raw = 8_000_i64.to_le_bytes();
        let at = stream.windows(8).rposition(|bytes| bytes == raw).expect("the size of the only column");
        for claimed in [i64::MAX, 1 << 40, 1 << 20] {
            let mut stream = stream.clone();
            stream[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
            let error = by_value(&framed(&stream), batch.schema()).unwrap_err().to_string();
            assert!(error.contains("claims"), "{claimed}: {error}");
        }
        // Each alone may be true, and all of them together are too much.
        let batch = rows(vec![7; 1_000_000]);
        let stream = encode_partition(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
        let many = framed(&stream).repeat(17);
        assert!(many.len() < MAX_MEMORY_TABLE_BYTES);
        let error = by_value(&many, batch.schema()).unwrap_err().to_string();
        assert!(error.contains("without compression"), "{error}");
        assert!(by_value(&framed(&stream).repeat(16), batch.schema()).is_ok());
        // The length of a body is in front of it, behind the one of the schema, which is 0.
        let body = stream.windows(8).enumerate().filter_map(|(at, bytes)| {
            let length = i64::from_le_bytes(bytes.try_into().unwrap());
            (length > 0 && length < 1_000 && length % 64 == 0).then_some(at)
        });
        for at in body.collect::<Vec<_>>() {
            let mut stream = stream.clone();
            stream[at..at + 8].copy_from_slice(&(1_i64 << 60).to_le_bytes());
            let _rows_or_error = by_value(&framed(&stream), batch.schema());
        }
    }

    #[test]
    fn a_table_cut_short_is_refused() {
        let batch = rows(vec![1, 2, 3]);
        let mut bytes = Vec::new();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
        encode_rows(&TableReference::bare("t"), &table, &mut bytes).unwrap();
        assert!(by_value(&bytes, batch.schema()).is_ok());
        for cut in [3, 9, bytes.len() - 1] {
            assert!(by_value(&bytes[..cut], batch.schema()).is_err(), "{cut}");
        }
    }
}
