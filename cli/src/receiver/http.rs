//! Requests of HTTP/1.1 (RFC 9112), as far as one who only takes POSTs must read them: request line,
//! headers, and a body by `Content-Length` or chunked.

use std::io::{self, BufRead, ErrorKind, Read};

use super::Received;

/// Longest line of a head, and of a chunk's size.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Most header lines.
const HEADERS_MAX: usize = 200;
/// Longest body; an export is a profile, and those stay far below.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A request, and what the connection is for after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What arrived.
    pub(crate) received: Received,
    /// Whether another request may follow.
    pub(crate) connection: Connection,
}

/// What becomes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Another request may follow.
    KeepAlive,
    /// The client is done.
    Close,
}

/// What the head says.
struct Head {
    received: Received,
    connection: Connection,
    body: Body,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    waits: bool,
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// Reads the next request; `None` if the client closed the connection between two.
///
/// `go_on` is called if the client waits for a `100 Continue` before the body.
pub(crate) fn read_request(
    from: &mut impl BufRead,
    go_on: impl FnOnce() -> io::Result<()>,
) -> io::Result<Option<Request>> {
    let Some(mut head) = read_head(from)? else { return Ok(None) };
    if head.waits {
        go_on()?;
    }
    head.received.body = match head.body {
        Body::Length(length) => read_exactly(from, length)?,
        Body::Chunked => read_chunks(from)?,
    };
    Ok(Some(Request { received: head.received, connection: head.connection }))
}

fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    // An empty line before a request line is skipped (RFC 9112 §2.2).
    while line.is_empty() {
        if !read_line(from, &mut line)? {
            return Ok(None);
        }
    }
    let mut parts = line.split(' ');
    let (Some(_method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid("the request line is not `METHOD TARGET VERSION`"));
    };
    let connection = match version {
        "HTTP/1.1" => Connection::KeepAlive,
        "HTTP/1.0" => Connection::Close,
        _ => return Err(invalid("this is no HTTP/1.1")),
    };
    let received = Received {
        dataflow: String::new(),
        sequence: None,
        id: String::new(),
        target: target.to_owned(),
        body: Vec::new(),
    };
    let mut head = Head { received, connection, body: Body::Length(0), waits: false };
    for _ in 0..HEADERS_MAX {
        if !read_line(from, &mut line)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.is_empty() {
            return Ok(Some(head));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
        head.take(name, value.trim())?;
    }
    Err(invalid("there are too many headers"))
}

impl Head {
    /// Keeps what a header says, if it matters here.
    fn take(&mut self, name: &str, value: &str) -> io::Result<()> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("content-length") {
            let length = value.parse().map_err(|_| invalid("the content length is no number"))?;
            if self.body != Body::Chunked {
                self.body = Body::Length(length);
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(invalid("only chunked transfer is understood"));
            }
            self.body = Body::Chunked;
        } else if is("connection") {
            if value.eq_ignore_ascii_case("close") {
                self.connection = Connection::Close;
            } else if value.eq_ignore_ascii_case("keep-alive") {
                self.connection = Connection::KeepAlive;
            }
        } else if is("expect") {
            self.waits = value.eq_ignore_ascii_case("100-continue");
        } else if is("forebay-dataflow") {
            value.clone_into(&mut self.received.dataflow);
        } else if is("forebay-sequence") {
            self.received.sequence = value.parse().ok();
        } else if is("webhook-id") {
            value.clone_into(&mut self.received.id);
        }
        Ok(())
    }
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut line = String::new();
    loop {
        if !read_line(from, &mut line)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk has no size"))?;
        if size == 0 {
            break;
        }
        if body.len() as u64 + size > BODY_BYTES_MAX {
            return Err(invalid("the body is too long"));
        }
        body.append(&mut read_exactly(from, size)?);
        read_line(from, &mut line)?;
        if !line.is_empty() {
            return Err(invalid("a chunk is longer than its size"));
        }
    }
    // Trailers end with an empty line, as headers do.
    for _ in 0..HEADERS_MAX {
        if !read_line(from, &mut line)? || line.is_empty() {
            return Ok(body);
        }
    }
    Err(invalid("there are too many trailers"))
}

fn read_exactly(from: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(invalid("the body is too long"));
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

/// Reads a line without its end into `line`; `false` at the end of the connection.
fn read_line(from: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    line.clear();
    if from.take(LINE_BYTES_MAX).read_line(line)? == 0 {
        return Ok(false);
    }
    if !line.ends_with('\n') {
        return Err(invalid("a line is too long or unfinished"));
    }
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(true)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::{Connection, read_request};

    #[test]
    fn requests_are_read_one_after_another() {
        let wire = "POST /a?b=c HTTP/1.1\r\nHost: x\r\nForebay-Dataflow: d\r\nforebay-sequence: 7\r\n\
                    webhook-id: e1\r\nContent-Length: 5\r\n\r\nhello\
                    POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n\
                    \r\nPOST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let mut from = wire.as_bytes();
        let mut next = || read_request(&mut from, || Ok(())).unwrap();
        let first = next().unwrap();
        assert_eq!(first.received.dataflow, "d");
        assert_eq!(first.received.sequence, Some(7));
        assert_eq!(first.received.id, "e1");
        assert_eq!(first.received.target, "/a?b=c");
        assert_eq!(first.received.body, b"hello");
        assert_eq!(first.connection, Connection::KeepAlive);
        let second = next().unwrap();
        assert_eq!(second.received.body, b"abc0123456789");
        assert_eq!(second.received.sequence, None);
        assert_eq!(next().unwrap().connection, Connection::Close);
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let endless = format!("POST / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let many = format!("POST / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(300));
        // (what is wrong, what arrives)
        let cases = [
            ("no HTTP", "hello\r\n\r\n"),
            ("another HTTP", "POST / HTTP/2.0\r\n\r\n"),
            ("a header without colon", "POST / HTTP/1.1\r\nhost\r\n\r\n"),
            ("a length that is no number", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"),
            ("a length beyond reason", "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"),
            ("an unknown coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
            ("half a head", "POST / HTTP/1.1\r\nHost: x"),
            ("half a body", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel"),
            ("half a chunk", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
            (
                "a chunk that is too long",
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhel\r\n",
            ),
            ("a line that does not end", &endless),
            ("too many headers", &many),
        ];
        for (name, wire) in cases {
            assert!(read_request(&mut wire.as_bytes(), || Ok(())).is_err(), "{name}");
        }
    }

    #[test]
    fn a_client_that_waits_for_the_go_ahead_gets_it_before_its_body() {
        let wire = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok";
        let mut told = false;
        let request = read_request(&mut wire.as_bytes(), || {
            told = true;
            Ok(())
        });
        assert_eq!(request.unwrap().unwrap().received.body, b"ok");
        assert!(told);
    }
}
