//! Frames between the host and the agent (docs/formats/wire.md): four bytes of length, a kind, a payload.
//!
//! Pure. Refuses a length of zero or over the limit before anything is kept for it, an unknown kind, a payload of the
//! wrong size, a stream 0.
//!
//! ```
//! use capsem_agent::frame::{Frame, Reader, write_data};
//! let mut bytes = Vec::new();
//! write_data(&mut bytes, 5, b"text");
//! let mut reader = Reader::default();
//! reader.take(&bytes);
//! assert_eq!(reader.next(), Ok(Some(Frame::Data { stream: 5, content: b"text".to_vec() })));
//! assert_eq!(reader.next(), Ok(None));
//! ```

/// Bytes a frame may have after its length.
pub const FRAME_LIMIT: usize = 1 << 20;
/// Bytes the JSON text of a message may have.
pub const MESSAGE_LIMIT: usize = 512 << 10;
/// Bytes of content a data frame may have.
pub const DATA_LIMIT: usize = 256 << 10;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A JSON object, not looked at yet.
    Message(Vec<u8>),
    /// Content of a stream.
    Data {
        /// The stream's number.
        stream: u32,
        /// 1 byte to `DATA_LIMIT`.
        content: Vec<u8>,
    },
    /// The sender sends no more on this stream.
    End(u32),
    /// The receiver has taken bytes.
    Credit {
        /// The stream's number.
        stream: u32,
        /// How many bytes.
        amount: u32,
    },
    /// The stream is over in both directions.
    Reset(u32),
}

/// Bytes in, frames out; keeps at most one unfinished frame and what was given last.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Takes what arrived.
    pub fn take(&mut self, untrusted: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(untrusted);
    }

    /// The next whole frame, or why what arrived is none.
    #[allow(clippy::should_implement_trait)] // it can fail, and it goes on after None
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        let waiting = &self.buffer[self.at..];
        let Some(length) = number(waiting, 0) else {
            return Ok(None);
        };
        let length = length as usize;
        if !(1..=FRAME_LIMIT).contains(&length) {
            return Err(format!(
                "a frame of {length} bytes; from 1 to {FRAME_LIMIT} are allowed"
            ));
        }
        let Some(whole) = waiting.get(4..4 + length) else {
            return Ok(None);
        };
        let frame = parse(whole[0], &whole[1..])?;
        self.at += 4 + length;
        Ok(Some(frame))
    }

    /// Forgets everything: the connection is another one.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn parse(kind: u8, payload: &[u8]) -> Result<Frame, String> {
    let size = payload.len();
    let allowed = match kind {
        1 => 2..=MESSAGE_LIMIT,
        2 => 5..=DATA_LIMIT + 4,
        3 | 5 => 4..=4,
        4 => 8..=8,
        _ => return Err(format!("a frame of the unknown kind {kind}")),
    };
    if !allowed.contains(&size) {
        return Err(format!(
            "a frame of kind {kind} with {size} bytes; from {} to {} are allowed",
            allowed.start(),
            allowed.end()
        ));
    }
    if kind == 1 {
        return Ok(Frame::Message(payload.to_vec()));
    }
    let stream = number(payload, 0).unwrap_or(0);
    if stream == 0 {
        return Err("a frame of stream 0, which is none".to_owned());
    }
    match kind {
        2 => Ok(Frame::Data {
            stream,
            content: payload[4..].to_vec(),
        }),
        3 => Ok(Frame::End(stream)),
        5 => Ok(Frame::Reset(stream)),
        _ => match number(payload, 4).unwrap_or(0) {
            0 => Err("a credit of 0 bytes".to_owned()),
            amount => Ok(Frame::Credit { stream, amount }),
        },
    }
}

fn head(out: &mut Vec<u8>, kind: u8, payload: usize) {
    let length = u32::try_from(payload + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
}

/// Appends a message.
pub fn write_message(out: &mut Vec<u8>, body: &[u8]) {
    debug_assert!((2..=MESSAGE_LIMIT).contains(&body.len()));
    head(out, 1, body.len());
    out.extend_from_slice(body);
}

/// Appends content of a stream: 1 byte to `DATA_LIMIT`.
pub fn write_data(out: &mut Vec<u8>, stream: u32, content: &[u8]) {
    debug_assert!((1..=DATA_LIMIT).contains(&content.len()));
    head(out, 2, content.len() + 4);
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(content);
}

/// Appends the end of a stream.
pub fn write_end(out: &mut Vec<u8>, stream: u32) {
    head(out, 3, 4);
    out.extend_from_slice(&stream.to_le_bytes());
}

/// Appends a credit.
pub fn write_credit(out: &mut Vec<u8>, stream: u32, amount: u32) {
    head(out, 4, 8);
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(&amount.to_le_bytes());
}

/// Appends a reset.
pub fn write_reset(out: &mut Vec<u8>, stream: u32) {
    head(out, 5, 4);
    out.extend_from_slice(&stream.to_le_bytes());
}
