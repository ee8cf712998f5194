//! Fields that tell browsers to be careful.
//!
//! Only those that break no honest page: a content security policy has to be written by who knows
//! the page, and stays the service's affair.

/// Names and values.
const FIELDS: [(&str, &str); 3] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
];

/// Adds them to a head of which `from` is the first byte in `out`, but for those that it has.
pub(crate) fn add_careful(out: &mut Vec<u8>, from: usize) {
    let end = out.len();
    for (name, value) in FIELDS {
        let head = out.get(from..end).unwrap_or_default();
        let mut lines = head.split(|byte| *byte == b'\n');
        let is_there = lines.any(|line| {
            let own = line.get(..name.len()).unwrap_or_default();
            own.eq_ignore_ascii_case(name.as_bytes()) && line.get(name.len()) == Some(&b':')
        });
        if !is_there {
            out.extend_from_slice([name, ": ", value, "\r\n"].concat().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_as_it_is() {
        let mut out = b"x-frame-options: DENY\r\n".to_vec();
        let from = out.len();
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nreferrer-policy: no-referrer\r\nX-Frame-Option: x\r\n",
        );
        let before = out.clone();
        add_careful(&mut out, from);
        let added = out.strip_prefix(&before[..]).unwrap();
        assert_eq!(
            String::from_utf8_lossy(added),
            "X-Content-Type-Options: nosniff\r\nX-Frame-Options: SAMEORIGIN\r\n"
        );
    }
}
