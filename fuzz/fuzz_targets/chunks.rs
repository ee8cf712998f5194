//! A chunked body: the same judgement in one piece and in many.
#![no_main]

use atoll_proxy::http::{BadChunk, ChunkDecoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (step, bytes) = input;
    let whole = decode(&bytes, bytes.len().max(1));
    assert_eq!(whole, decode(&bytes, usize::from(step).max(1)));
    assert_eq!(whole, decode(&bytes, 1));
});

/// How much was used and whether it ended, or the error.
fn decode(bytes: &[u8], step: usize) -> Result<(usize, bool), BadChunk> {
    let mut decoder = ChunkDecoder::new();
    let mut used = 0;
    for part in bytes.chunks(step) {
        let length = decoder.advance(part)?;
        used += length;
        if decoder.is_done() {
            break;
        }
        assert_eq!(length, part.len(), "an unfinished body uses all there is");
    }
    Ok((used, decoder.is_done()))
}
