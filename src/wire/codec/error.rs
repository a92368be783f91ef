//! Why a frame's body cannot be decoded.

/// The body is not a frame. The sender's fault; decoding it again fails again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The body ends inside this field.
    Short(&'static str),
    /// Number of bytes after the last field.
    Trailing(usize),
    /// No frame of this direction has this kind.
    Kind(u8),
    /// The field is not UTF-8.
    Utf8(&'static str),
    /// A length or a count exceeds its bound.
    TooLong { field: &'static str, got: usize, most: usize },
    /// A tag or bool has an undefined value.
    Value { field: &'static str, got: u8 },
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(field) => write!(f, "decode a frame: the body ends inside {field}"),
            Self::Trailing(n) => write!(f, "decode a frame: {n} bytes too many"),
            Self::Kind(kind) => write!(f, "decode a frame: unknown kind {kind:#04x}"),
            Self::Utf8(field) => write!(f, "decode a frame: {field} is not UTF-8"),
            Self::TooLong { field, got, most } => {
                write!(f, "decode a frame: the length of {field} is {got}, more than {most}")
            }
            Self::Value { field, got } => write!(f, "decode a frame: {got} is not a valid value of {field}"),
        }
    }
}

impl std::error::Error for DecodeError {}
