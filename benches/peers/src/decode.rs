//! Throughput and allocations of the decoder of multiplexed streams, on one core, in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use docker::stdcopy::{Decoder, StdStream};

const FRAME: usize = 32 << 10;
const FRAMES: usize = 2048;
const ROUNDS: usize = 40;
/// Size of a read from a socket.
const PIECE: usize = 64 << 10;

/// The system allocator with a counter.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards every call to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

pub fn measure() {
    let mut stream = Vec::with_capacity(FRAMES * (FRAME + 8));
    for number in 0..FRAMES {
        stream.extend_from_slice(&[1 + (number % 2) as u8, 0, 0, 0]);
        stream.extend_from_slice(&(FRAME as u32).to_be_bytes());
        stream.resize(stream.len() + FRAME, number as u8);
    }
    // Decodes into existing buffers, as for a report: one copy of every byte.
    let mut streams = [Vec::with_capacity(stream.len()), Vec::with_capacity(stream.len())];
    let (mut decoding, mut copying) = (f64::MAX, f64::MAX);
    let mut allocations = 0;
    for _ in 0..ROUNDS {
        streams.iter_mut().for_each(Vec::clear);
        let (begun, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
        let mut decoder = Decoder::new();
        for piece in stream.chunks(PIECE) {
            let sink = |stream, payload: &[u8]| {
                streams[usize::from(stream == StdStream::Stderr)].extend_from_slice(payload);
            };
            decoder.push(black_box(piece), sink).unwrap();
        }
        decoder.finish().unwrap();
        decoding = decoding.min(begun.elapsed().as_secs_f64());
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!((streams[0].len(), streams[1].len()), (FRAMES / 2 * FRAME, FRAMES / 2 * FRAME));

        streams[0].clear();
        let begun = Instant::now();
        for piece in stream.chunks(PIECE) {
            streams[0].extend_from_slice(black_box(piece));
        }
        copying = copying.min(begun.elapsed().as_secs_f64());
        black_box(&streams);
    }
    let speed = |seconds: f64| (FRAMES * FRAME) as f64 / seconds / 1e9;
    println!(
        "{:<40} {:>22} {:>22} {:>6.2}x",
        "decode and copy out 32 KiB frames",
        format!("{:.1} GB/s, {allocations} allocs", speed(decoding)),
        format!("memcpy: {:.1} GB/s", speed(copying)),
        copying / decoding
    );
}
