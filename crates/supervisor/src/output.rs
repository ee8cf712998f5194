//! What a process prints: read from its pipes, cut into lines, kept short.
//!
//! Memory does not grow with what is printed: a line longer than 16 KiB is delivered in pieces, and
//! no more than the last 40 lines are remembered. A program that prints gigabytes without a line
//! end is an ordinary case (a core dump on stdout), not an error. Refused: handing lines to a
//! channel here; who needs a queue puts it behind the [`OutputSink`](crate::OutputSink), which also
//! says whether a process shall wait for it, and drops when it is full.

pub(crate) mod reader;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::event::Printed;

/// The longest piece of a line that is delivered, in bytes.
pub(crate) const LINE_LENGTH_MAX: usize = 16 * 1024;
/// How many lines are remembered for a report.
const TAIL_LINES_MAX: usize = 40;
/// How many bytes of them.
const TAIL_BYTES_MAX: usize = 8 * 1024;
/// How many bytes of a single one.
const TAIL_LINE_BYTES_MAX: usize = 1024;
/// How much is read at once.
const READ_LENGTH: usize = 16 * 1024;
/// The size of a pipe that is asked for; the kernel's default is 64 KiB.
const PIPE_LENGTH: usize = 256 * 1024;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// Whether a piece of the present line was delivered already.
    continuing: bool,
}

/// The last lines, for reports.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    /// Whether the last of `lines` goes on.
    open: bool,
}

/// How reading a pipe came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing is there now.
    Empty,
    /// There may be more.
    More,
    /// Nothing will come any more.
    End,
}

/// Makes a pipe for output: the end to read from, which never blocks, and the end for the child.
pub(crate) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    // Refused when the user has many pipes; then it stays at the default.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_LENGTH);
    Ok((reader, writer))
}

/// Reads what is there, at most `budget` bytes, and hands out the lines: the text, and
/// whether it goes on.
pub(crate) fn read(
    pipe: &OwnedFd,
    lines: &mut Lines,
    budget: usize,
    mut take: impl FnMut(&str, bool),
) -> Read {
    let mut buffer = [0; READ_LENGTH];
    let mut left = budget;
    loop {
        let most = left.min(READ_LENGTH);
        match rustix::io::read(pipe, &mut buffer[..most]) {
            Ok(0) => return Read::End,
            Ok(length) => {
                lines.push(&buffer[..length], &mut take);
                left = left.saturating_sub(length);
                if left == 0 {
                    return Read::More;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Read::Empty,
            Err(_) => return Read::End,
        }
    }
}

impl Lines {
    /// Takes bytes and hands out the lines that are complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&str, bool)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.partial.is_empty() && line.len() <= LINE_LENGTH_MAX {
                // The usual case: nothing is copied.
                deliver(without_cr(line), false, take);
            } else {
                self.extend(line, take);
                deliver(without_cr(&self.partial), false, take);
                self.partial.clear();
            }
            self.continuing = false;
        }
        self.extend(bytes, take);
    }

    /// Hands out what is left when the stream ends without a line end.
    pub(crate) fn finish(&mut self, take: &mut impl FnMut(&str, bool)) {
        if !self.partial.is_empty() || self.continuing {
            deliver(without_cr(&self.partial), false, take);
        }
        *self = Self::default();
    }

    /// Adds to the line that is not complete; when it is too long, hands out pieces.
    fn extend(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&str, bool)) {
        while self.partial.len() + bytes.len() > LINE_LENGTH_MAX {
            let (head, rest) = bytes.split_at(LINE_LENGTH_MAX - self.partial.len());
            bytes = rest;
            self.partial.extend_from_slice(head);
            let cut = whole_characters(&self.partial);
            deliver(&self.partial[..cut], true, take);
            self.partial.drain(..cut);
            self.continuing = true;
        }
        self.partial.extend_from_slice(bytes);
    }
}

fn deliver(line: &[u8], continued: bool, take: &mut impl FnMut(&str, bool)) {
    // Almost all is sound, and found so many times faster than what is not is replaced.
    match std::str::from_utf8(line) {
        Ok(text) => take(text, continued),
        Err(_) => take(&String::from_utf8_lossy(line), continued),
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many of the bytes can be cut off without cutting a character in two.
fn whole_characters(bytes: &[u8]) -> usize {
    // The last character starts within the last four bytes; after that this is no UTF-8 anyway.
    for back in 1..=bytes.len().min(4) {
        let at = bytes.len() - back;
        let length = match bytes.get(at) {
            Some(0xC2..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..=0xF4) => 4,
            Some(0x80..=0xBF) => continue,
            _ => return bytes.len(),
        };
        return if length > back { at } else { bytes.len() };
    }
    bytes.len()
}

impl Tail {
    /// Remembers the last of these lines.
    pub(crate) fn push_all(&mut self, printed: &Printed) {
        let pieces = printed.lines().filter(|line| line.continued).count();
        // Of so many at the end enough begin a line, whichever of them are pieces.
        let passed = printed.count().saturating_sub(TAIL_LINES_MAX + pieces);
        if let Some(before) = printed.lines().take(passed).last() {
            self.open = before.continued;
        }
        for line in printed.lines().skip(passed) {
            self.push(line.text, line.continued);
        }
    }

    /// Remembers a line, or a piece of one.
    pub(crate) fn push(&mut self, text: &str, continued: bool) {
        let goes_on = std::mem::replace(&mut self.open, continued);
        if goes_on {
            // Of a very long line only its beginning is remembered.
            return;
        }
        let mut line = String::new();
        while self.lines.len() >= TAIL_LINES_MAX {
            line = self.forget();
        }
        let mut cuts = (0..=TAIL_LINE_BYTES_MAX.min(text.len())).rev();
        let cut = cuts.find(|at| text.is_char_boundary(*at));
        let head = &text[..cut.unwrap_or(0)];
        line.clear();
        line.push_str(head);
        if head.len() < text.len() {
            line.push('…');
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > TAIL_BYTES_MAX {
            self.forget();
        }
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self) -> String {
        let line = self.lines.pop_front().unwrap_or_default();
        self.bytes -= line.len();
        line
    }
}

#[cfg(test)]
mod tests;
