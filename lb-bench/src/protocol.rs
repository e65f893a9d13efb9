//! What clients and servers say to each other: a connection begins with a byte that says what it is for.

/// What a connection is for, its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    /// A small answer, then the server closes.
    Request = b'R',
    /// The client sends until it closes its side; the answer is how many bytes came, eight bytes in network order.
    Bulk = b'B',
    /// The client asks again and again, each time with [`QUESTION_BYTES`]; the answer is the server's name and the same bytes.
    Hold = b'H',
}

impl Task {
    /// What a connection with this first byte is for.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        [Self::Request, Self::Bulk, Self::Hold].into_iter().find(|task| *task as u8 == byte)
    }
}

/// Bytes of the answer to [`Task::Request`].
pub const ANSWER_BYTES: usize = 128;
/// Bytes of a server's name, with zeros behind it.
pub const NAME_BYTES: usize = 16;
/// Bytes of a question on a connection that is held.
pub const QUESTION_BYTES: usize = 8;
/// Bytes of the answer to such a question.
pub const HOLD_ANSWER_BYTES: usize = NAME_BYTES + QUESTION_BYTES;

/// A server's name as it is sent.
pub type Name = [u8; NAME_BYTES];

/// The name as it is sent; an error for one that is empty or too long.
pub fn name(text: &str) -> Result<Name, String> {
    if text.is_empty() || text.len() > NAME_BYTES || text.contains('\0') {
        return Err(format!("{text:?}: a name has 1 to {NAME_BYTES} bytes"));
    }
    let mut name = [0; NAME_BYTES];
    name[..text.len()].copy_from_slice(text.as_bytes());
    Ok(name)
}

/// The name as a person reads it.
#[must_use]
pub fn shown(name: &Name) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// The answer to [`Task::Request`]: the server's name, filled up.
#[must_use]
pub fn answer(name: &Name) -> [u8; ANSWER_BYTES] {
    let mut answer = [b'a'; ANSWER_BYTES];
    answer[..NAME_BYTES].copy_from_slice(name);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sent_and_read() {
        assert_eq!(shown(&name("h1").unwrap()), "h1");
        assert_eq!(shown(&name("0123456789abcdef").unwrap()), "0123456789abcdef");
        assert!(name("").is_err() && name("0123456789abcdefg").is_err() && name("a\0").is_err());
        assert_eq!(&answer(&name("h1").unwrap())[..4], b"h1\0\0");
    }

    #[test]
    fn tasks_are_told_by_their_byte() {
        assert_eq!(Task::of(b'H'), Some(Task::Hold));
        assert_eq!(Task::of(0), None);
    }
}
