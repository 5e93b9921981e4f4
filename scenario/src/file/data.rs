//! Data sets from CSV.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::node::Node;
use super::reader::Reader;
use super::shape::DATA;
use crate::PlanSource;
use crate::plan::{AtEnd, DataSet};

pub(super) fn read(reader: &mut Reader, name: &str, node: &Node, source: &PlanSource, seed: u64) -> Option<DataSet> {
    let object = reader.object(node, &DATA)?;
    let shuffled = reader.choice(object.get("order"), &[("sequential", false), ("shuffle", true)], false);
    let ends = [("repeat", AtEnd::Repeat), ("stop", AtEnd::Stop)];
    let at_end = reader.choice(object.get("at_end"), &ends, AtEnd::Repeat);
    let csv = object.get("csv")?;
    let path = reader.text(csv)?;
    let content = reader.file(csv, source)?;
    match rows(&content) {
        Ok((columns, mut rows)) => {
            if shuffled {
                rows.shuffle(&mut generator(seed, name));
            }
            Some(DataSet { name: name.to_owned(), columns, rows: rows.into(), at_end })
        }
        Err(why) => {
            reader.problem(csv.place, format!("`{path}`: {why}"));
            None
        }
    }
}

fn rows(content: &[u8]) -> Result<(Vec<String>, Vec<Vec<String>>), String> {
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(content);
    let header = csv.headers().map_err(|error| error.to_string())?;
    let columns: Vec<String> = header.iter().map(|column| column.trim_start_matches('\u{feff}').to_owned()).collect();
    if columns.iter().all(String::is_empty) {
        return Err("it has no header line; the first line names the columns".to_owned());
    }
    let rows: Vec<Vec<String>> = csv.deserialize().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if rows.is_empty() { Err("it has a header line but no row".to_owned()) } else { Ok((columns, rows)) }
}

/// Every agent shuffles the same way: from the plan's seed and the name of the data set.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
