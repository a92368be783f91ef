//! How much a JSON text holds, found without parsing it.

use config::bounds;

/// Depth and values of a JSON text. Counting stops beyond a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JsonShape {
    /// Nesting depth. Brackets in strings do not count.
    pub(crate) depth: usize,
    /// Values, or a few more.
    pub(crate) values: usize,
}

impl JsonShape {
    pub(crate) fn of(text: &[u8]) -> JsonShape {
        let (mut depth, mut at, mut shape) = (0usize, 0, JsonShape { depth: 0, values: 1 });
        while let Some(byte) = text.get(at) {
            at += 1;
            match byte {
                // skips the string, which may have megabytes
                b'"' => loop {
                    let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) else { return shape };
                    at += found + 1;
                    if text[at - 1] == b'"' {
                        break;
                    }
                    // an escaped quote does not end the string
                    at = (at + 1).min(text.len());
                },
                b'{' | b'[' => {
                    depth += 1;
                    shape.values += 1;
                    shape.depth = shape.depth.max(depth);
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' => shape.values += 1,
                _ => {}
            }
            if shape.depth > bounds::MAX_DEPTH || shape.values > bounds::MAX_LINE_VALUES {
                return shape;
            }
        }
        shape
    }

    /// Memory that the parsed values take besides their text. A line beyond a bound is not parsed.
    pub(crate) fn memory_bytes(self) -> usize {
        if self.depth > bounds::MAX_DEPTH || self.values > bounds::MAX_LINE_VALUES {
            0
        } else {
            self.values * bounds::LINE_VALUE_BYTES
        }
    }
}
