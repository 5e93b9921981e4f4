//! Writing many entries with few statements.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Columns of the table of entries.
const COLUMNS: usize = 11;
/// Rows of the longest statement: 704 values, where SQLite takes 32,766 and PostgreSQL 65,535.
const LONGEST: usize = 64;

/// Statements for 1, 2, 4 … rows: few enough to stay prepared.
static STATEMENTS: LazyLock<Vec<SqlStr>> =
    LazyLock::new(|| (0..=LONGEST.ilog2()).map(|power| AssertSqlSafe(text(1 << power)).into_sql_str()).collect());

fn text(rows: usize) -> String {
    let values = |row: usize| {
        let places: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", row * COLUMNS + column)).collect();
        format!("({})", places.join(", "))
    };
    let values: Vec<String> = (0..rows).map(values).collect();
    format!(
        "INSERT INTO entries (log, n, monotonic_us, calendar_us, agent, incarnation, first_seq, seq, hashes, bytes, \
         checksum) VALUES {}",
        values.join(", ")
    )
}

/// The longest statement for no more than so many rows (at least one), and how many it takes.
pub(super) fn statement(rows: usize) -> (SqlStr, usize) {
    let power = rows.clamp(1, LONGEST).ilog2();
    let sql = STATEMENTS.get(power as usize).cloned();
    (sql.unwrap_or_else(|| AssertSqlSafe(text(1 << power)).into_sql_str()), 1 << power)
}

/// Inserts rows into a log, in a transaction of `writing!`.
macro_rules! insert_rows {
    ($transaction:ident, $log:expr, $rows:expr) => {
        let mut left: &[$crate::store::entry::RowOf<'_>] = $rows;
        while !left.is_empty() {
            let (sql, count) = $crate::store::insert::statement(left.len());
            let (rows, later) = left.split_at(count);
            let mut query = sqlx::query(sql);
            for row in rows {
                query = query
                    .bind($log)
                    .bind(row.n)
                    .bind(row.monotonic_us)
                    .bind(row.calendar_us)
                    .bind(row.agent)
                    .bind(row.incarnation)
                    .bind(row.first_seq)
                    .bind(row.seq)
                    .bind(row.hashes.as_deref())
                    .bind(row.bytes)
                    .bind(row.checksum);
            }
            query.execute(&mut *$transaction).await?;
            left = later;
        }
    };
}

pub(super) use insert_rows;
