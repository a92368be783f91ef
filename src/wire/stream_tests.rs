//! Frames that arrive whole, byte by byte, split at every point, with trailing bytes, and cut.

use super::*;
use proptest::prelude::*;

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn take_all(reader: &mut FrameReader) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(body) = reader.next().unwrap() {
        all.push(body.to_vec());
    }
    all
}

#[test]
fn three_frames_are_read_at_every_split() {
    let bodies: [&[u8]; 3] = [b"a", b"hello", &[7; 90]];
    let bytes: Vec<u8> = bodies.iter().flat_map(|b| frame(b)).collect();
    for split in 0..=bytes.len() {
        let mut reader = FrameReader::new();
        reader.push(&bytes[..split]);
        let mut got = take_all(&mut reader);
        reader.push(&bytes[split..]);
        got.extend(take_all(&mut reader));
        assert_eq!(got, bodies);
        assert_eq!(reader.finish(), Ok(()));
    }
    let mut reader = FrameReader::new();
    let mut got = Vec::new();
    for byte in &bytes {
        reader.push(&[*byte]);
        got.extend(take_all(&mut reader));
    }
    assert_eq!(got, bodies);
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_reported_as_cut() {
    let bytes = frame(b"hello");
    for cut in 1..bytes.len() {
        let mut reader = FrameReader::new();
        reader.push(&bytes[..cut]);
        assert_eq!(reader.next(), Ok(None));
        assert_eq!(reader.finish(), Err(FramingError::Cut { have: cut }));
    }
    assert_eq!(FrameReader::new().finish(), Ok(()));
}

#[test]
fn trailing_bytes_are_the_start_of_the_next_frame() {
    let mut bytes = frame(b"hello");
    bytes.extend([9, 0]);
    let mut reader = FrameReader::new();
    reader.push(&bytes);
    assert_eq!(reader.next(), Ok(Some(&b"hello"[..])));
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.finish(), Err(FramingError::Cut { have: 2 }));
}

#[test]
fn a_length_out_of_bounds_breaks_the_stream_permanently() {
    for (bytes, error) in [
        ([0, 0, 0, 0], FramingError::Empty),
        ([0xff; 4], FramingError::TooLong(u32::MAX)),
        (
            u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes(),
            FramingError::TooLong(u32::try_from(MAX_FRAME_BYTES + 1).unwrap()),
        ),
    ] {
        let mut reader = FrameReader::new();
        reader.push(&bytes);
        assert_eq!(reader.next(), Err(error));
        reader.push(&frame(b"hello"));
        assert_eq!(reader.next(), Err(error));
        assert_eq!(reader.finish(), Err(error));
    }
}

#[test]
fn the_largest_frame_is_accepted() {
    let body = vec![5; MAX_FRAME_BYTES];
    let mut reader = FrameReader::new();
    reader.push(&frame(&body));
    assert_eq!(reader.next(), Ok(Some(&body[..])));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let mut reader = FrameReader::new();
        for piece in pieces {
            reader.push(&piece);
            while let Ok(Some(body)) = reader.next() {
                prop_assert!(!body.is_empty());
            }
        }
        let _ = reader.finish();
    }
}
