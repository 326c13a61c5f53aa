//! The 22 queries of TPC-H, with the parameters of its validation run at scale 1.

/// The text of query `number`, 1 to 22, over tables named as in TPC-H. One statement without a semicolon.
pub fn tpch_query(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => include_str!("tpch/q1.sql"),
        2 => include_str!("tpch/q2.sql"),
        3 => include_str!("tpch/q3.sql"),
        4 => include_str!("tpch/q4.sql"),
        5 => include_str!("tpch/q5.sql"),
        6 => include_str!("tpch/q6.sql"),
        7 => include_str!("tpch/q7.sql"),
        8 => include_str!("tpch/q8.sql"),
        9 => include_str!("tpch/q9.sql"),
        10 => include_str!("tpch/q10.sql"),
        11 => include_str!("tpch/q11.sql"),
        12 => include_str!("tpch/q12.sql"),
        13 => include_str!("tpch/q13.sql"),
        14 => include_str!("tpch/q14.sql"),
        15 => include_str!("tpch/q15.sql"),
        16 => include_str!("tpch/q16.sql"),
        17 => include_str!("tpch/q17.sql"),
        18 => include_str!("tpch/q18.sql"),
        19 => include_str!("tpch/q19.sql"),
        20 => include_str!("tpch/q20.sql"),
        21 => include_str!("tpch/q21.sql"),
        22 => include_str!("tpch/q22.sql"),
        _ => return None,
    })
}
