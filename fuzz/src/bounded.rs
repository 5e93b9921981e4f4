//! The memory that an input may take.

/// Most that is taken at once: a body as large as the plan allows and what it is decoded to, each growing by doubling; the
/// windows of zstd (8 MiB) and brotli (16 MiB); the buffers of a connection.
const MOST_BYTES: u64 = 64 << 20;

pub(crate) fn within(bytes: &[u8], check: fn(&[u8])) {
    let taken = allocation_counter::measure(|| check(bytes)).bytes_max;
    assert!(taken <= MOST_BYTES, "it took {taken} bytes at once");
}
