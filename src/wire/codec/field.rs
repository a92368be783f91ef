//! The encodings of single fields, each with its bound.
//!
//! A value such as `U32` or `PATH` names an encoding; its [`Field`] implementation both writes and
//! reads it. No length is trusted before that many bytes are seen to be present, so that decoding
//! allocates no more than a small multiple of the frame.

use super::error::DecodeError;
use crate::frame::{MAX_CHUNK_BYTES, MAX_FRAME_BYTES, Relax};

/// Most items in one list of a frame (arguments, environment, files).
pub const MAX_ITEMS: usize = 4096;

/// Longest path in a frame, in bytes (Linux's PATH_MAX).
pub const MAX_PATH_BYTES: usize = 4096;

/// The unread rest of a frame's body.
pub(super) struct PayloadReader<'a>(pub(super) &'a [u8]);

impl<'a> PayloadReader<'a> {
    fn take(&mut self, n: usize, name: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(DecodeError::Short(name))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short(name))?;
        self.0 = tail;
        Ok(*head)
    }

    /// Reads a length or a count and checks it against its bound.
    fn length(&mut self, name: &'static str, most: usize) -> Result<usize, DecodeError> {
        let got = usize::try_from(U32.read(self, name)?).unwrap_or(usize::MAX);
        if got > most {
            return Err(DecodeError::TooLong { field: name, got, most });
        }
        Ok(got)
    }

    pub(super) fn end<T>(self, frame: T) -> Result<T, DecodeError> {
        match self.0.len() {
            0 => Ok(frame),
            n => Err(DecodeError::Trailing(n)),
        }
    }
}

/// How a value of type `T` is written and read. `name` is the field's name, for errors.
pub(super) trait Field<T> {
    fn write(&self, value: &T, out: &mut Vec<u8>);
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<T, DecodeError>;
}

/// A value whose encoding is a list of fields, made by the macros of `super::layout`.
pub(super) trait WireRecord: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut PayloadReader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! little_endian {
    ($($field:ident $integer:ty),*) => {$(
        pub(super) struct $field;
        impl Field<$integer> for $field {
            fn write(&self, value: &$integer, out: &mut Vec<u8>) {
                out.extend_from_slice(&value.to_le_bytes());
            }
            fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<$integer, DecodeError> {
                from.array(name).map(<$integer>::from_le_bytes)
            }
        }
    )*};
}

little_endian!(U8 u8, U16 u16, U32 u32, I32 i32, U64 u64);

/// One byte, 0 or 1.
pub(super) struct Bool;

impl Field<bool> for Bool {
    fn write(&self, value: &bool, out: &mut Vec<u8>) {
        out.push(u8::from(*value));
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<bool, DecodeError> {
        match U8.read(from, name)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Value { field: name, got }),
        }
    }
}

/// 16 raw bytes.
pub(super) struct Nonce;

impl Field<[u8; 16]> for Nonce {
    fn write(&self, value: &[u8; 16], out: &mut Vec<u8>) {
        out.extend_from_slice(value);
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<[u8; 16], DecodeError> {
        from.array(name)
    }
}

/// The bits of a [`Relax`] as u32. Unknown bits are passed through.
pub(super) struct RelaxBits;

impl Field<Relax> for RelaxBits {
    fn write(&self, value: &Relax, out: &mut Vec<u8>) {
        U32.write(&value.0, out);
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<Relax, DecodeError> {
        U32.read(from, name).map(Relax)
    }
}

/// A length and that many bytes, at most this many.
pub(super) struct Bytes(usize);

pub(super) const CHUNK: Bytes = Bytes(MAX_CHUNK_BYTES);

/// Writes a length and the bytes.
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    U32.write(&u32::try_from(count).unwrap_or(u32::MAX), out);
}

impl Field<Vec<u8>> for Bytes {
    fn write(&self, value: &Vec<u8>, out: &mut Vec<u8>) {
        write_bytes(value, out);
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<Vec<u8>, DecodeError> {
        let length = from.length(name, self.0)?;
        from.take(length, name).map(<[u8]>::to_vec)
    }
}

/// A length and that many bytes of UTF-8, at most this many.
pub(super) struct BoundedText(usize);

pub(super) const TEXT: BoundedText = BoundedText(MAX_FRAME_BYTES);
pub(super) const PATH: BoundedText = BoundedText(MAX_PATH_BYTES);

impl Field<String> for BoundedText {
    fn write(&self, value: &String, out: &mut Vec<u8>) {
        write_bytes(value.as_bytes(), out);
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<String, DecodeError> {
        let length = from.length(name, self.0)?;
        let bytes = from.take(length, name)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8(name))
    }
}

/// A count (at most [`MAX_ITEMS`]) and that many items.
pub(super) struct List<F>(pub(super) F);

impl<T, F: Field<T>> Field<Vec<T>> for List<F> {
    fn write(&self, value: &Vec<T>, out: &mut Vec<u8>) {
        write_count(value.len(), out);
        value.iter().for_each(|item| self.0.write(item, out));
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<Vec<T>, DecodeError> {
        let count = from.length(name, MAX_ITEMS)?;
        // no with_capacity: the count is trusted one item at a time
        (0..count).map(|_| self.0.read(from, name)).collect()
    }
}

/// Two fields in a row.
pub(super) struct Pair<A, B>(pub(super) A, pub(super) B);

impl<T, U, A: Field<T>, B: Field<U>> Field<(T, U)> for Pair<A, B> {
    fn write(&self, value: &(T, U), out: &mut Vec<u8>) {
        self.0.write(&value.0, out);
        self.1.write(&value.1, out);
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<(T, U), DecodeError> {
        Ok((self.0.read(from, name)?, self.1.read(from, name)?))
    }
}

/// A [`Bool`], and the value if it is true.
pub(super) struct Optional<F>(pub(super) F);

impl<T, F: Field<T>> Field<Option<T>> for Optional<F> {
    fn write(&self, value: &Option<T>, out: &mut Vec<u8>) {
        Bool.write(&value.is_some(), out);
        value.iter().for_each(|value| self.0.write(value, out));
    }
    fn read(&self, from: &mut PayloadReader<'_>, name: &'static str) -> Result<Option<T>, DecodeError> {
        match Bool.read(from, name)? {
            true => self.0.read(from, name).map(Some),
            false => Ok(None),
        }
    }
}

/// The fields of a record, or the tag of an enumeration and its fields.
pub(super) struct Nested;

impl<T: WireRecord> Field<T> for Nested {
    fn write(&self, value: &T, out: &mut Vec<u8>) {
        value.write(out);
    }
    fn read(&self, from: &mut PayloadReader<'_>, _name: &'static str) -> Result<T, DecodeError> {
        T::read(from)
    }
}

impl<T: WireRecord> WireRecord for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
    fn read(from: &mut PayloadReader<'_>) -> Result<Self, DecodeError> {
        T::read(from).map(Box::new)
    }
}
