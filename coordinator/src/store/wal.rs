//! Looks through SQLite's write-ahead log before SQLite does. SQLite ends its recovery at the first frame that is not
//! whole and drops all behind it without a word. For a transaction that was being written when the machine stopped this
//! is right. For a byte that a disk has flipped in the middle it is the loss of what was acknowledged.
//!
//! The two differ in what follows. A transaction is synced before the next one is written, so where frames of a later
//! transaction are there, the earlier one was whole once. The format: <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::lock::failed;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Refuses a log that has something behind a frame that is not whole.
pub(super) fn check(database: &Path) -> Result<(), StoreError> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let path = PathBuf::from(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("open the write-ahead log", &path, &error)),
    };
    match damage(BufReader::with_capacity(1 << 20, file)) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(StoreError::Damaged { file: path.display().to_string(), what }),
        Err(error) => Err(failed("read the write-ahead log", &path, &error)),
    }
}

/// The running checksum of the format: over pairs of 32-bit words, each added to the two sums in turn.
#[derive(Clone, Copy, PartialEq)]
struct Sum(u32, u32);

impl Sum {
    fn over(mut self, bytes: &[u8], big_endian: bool) -> Sum {
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            let word = |bytes| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
            self.0 = self.0.wrapping_add(word([a, b, c, d])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word([e, f, g, h])).wrapping_add(self.0);
        }
        self
    }
}

/// The big-endian number at a place.
fn at(bytes: &[u8], place: usize) -> u32 {
    bytes.get(place..place + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn damage(mut log: impl Read) -> std::io::Result<Option<String>> {
    let mut header = [0; HEADER_BYTES];
    // One that is cut off within its header was being made when the machine stopped: nothing was in it.
    if fill(&mut log, &mut header)? < HEADER_BYTES {
        return Ok(None);
    }
    let big_endian = at(&header, 0) & 1 == 1;
    let mut sum = Sum(0, 0).over(&header[..24], big_endian);
    let page = at(&header, 8) as usize;
    let known = at(&header, 0) & !1 == 0x377f_0682 && (512..=65536).contains(&page) && page.is_power_of_two();
    if !known || sum != Sum(at(&header, 24), at(&header, 28)) {
        // Room that the file system had given but not yet filled.
        let mut rest = Vec::new();
        let empty = header.iter().all(|byte| *byte == 0) && {
            log.take(1 << 20).read_to_end(&mut rest)?;
            rest.iter().all(|byte| *byte == 0)
        };
        return Ok((!empty).then(|| {
            "its header is not what was written, so nothing in it can be trusted; restore the database from a copy, \
             or, to go on without what was stored last, delete this file"
                .to_owned()
        }));
    }
    let salts = [at(&header, 16), at(&header, 20)];
    let mut frame = vec![0; FRAME_HEADER_BYTES + page];
    let mut place = HEADER_BYTES;
    // Where the first frame lies that is not whole, and whether the end of its transaction has been seen.
    let mut broken = None;
    let mut committed = false;
    // Where the last whole transaction ends.
    let mut whole = HEADER_BYTES;
    while fill(&mut log, &mut frame)? == frame.len() {
        // Frames of other salts are left over from before the last checkpoint.
        let mut ours = [at(&frame, 8), at(&frame, 12)] == salts;
        let commit = at(&frame, 4) != 0;
        if broken.is_none() {
            let next = sum.over(&frame[..8], big_endian).over(&frame[FRAME_HEADER_BYTES..], big_endian);
            let sound = next == Sum(at(&frame, 16), at(&frame, 20));
            if ours && sound {
                sum = next;
                whole = if commit { place + frame.len() } else { whole };
            } else {
                broken = Some(place);
                // The checksum, which doesn't cover the salts, runs on from frame to frame: no frame from before the
                // last checkpoint has the right one.
                ours |= sound;
            }
        } else if committed && ours {
            return Ok(Some(format!(
                "the frame at byte {} is not what was written, and later transactions follow it; restore the database \
                 from a copy, or, to go on with what was stored before it, cut this file off at byte {whole}",
                broken.unwrap_or(place),
            )));
        }
        committed |= broken.is_some() && commit && ours;
        place += frame.len();
    }
    Ok(None)
}

/// Reads until the buffer is full or the file ends.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match log.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
