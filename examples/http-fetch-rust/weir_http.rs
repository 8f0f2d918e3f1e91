//! HTTP for WebAssembly programs under weir: a small binding of the import module `weir_http_v1`.
//!
//! A program has no sockets. It hands requests to the node, whose egress gateway judges them, connects to the host (for
//! https with TLS and a verified certificate of its own) and hands the response back. Every call blocks.

use std::fmt;
use std::io;

/// What the functions answer beside success; see docs/wasm-http.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure(pub i32);

impl Failure {
    pub const DENIED: Failure = Failure(1);
    pub const UNAVAILABLE: Failure = Failure(2);
    pub const INVALID: Failure = Failure(4);
    pub const TOO_LARGE: Failure = Failure(5);
    pub const TOO_MANY: Failure = Failure(6);
    pub const ORDER: Failure = Failure(7);
    pub const CUT: Failure = Failure(8);
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Failure::DENIED => "the job has no network: run it with --network http --domain HOST",
            Failure::UNAVAILABLE => "the gateway is gone",
            Failure::INVALID => "the method, URL or a header is malformed",
            Failure::TOO_LARGE => "the request is too large",
            Failure::TOO_MANY => "too many requests are open",
            Failure::ORDER => "the call does not fit what was done before",
            Failure::CUT => "the connection ended early",
            _ => "it failed",
        })
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        io::Error::new(io::ErrorKind::Other, failure)
    }
}

#[link(wasm_import_module = "weir_http_v1")]
extern "C" {
    fn request_open(
        method: *const u8,
        method_len: usize,
        url: *const u8,
        url_len: usize,
        headers: *const u8,
        headers_len: usize,
        body_bytes: i64,
        handle: *mut u32,
    ) -> i32;
    fn request_write(handle: u32, data: *const u8, len: usize) -> i32;
    fn request_finish(handle: u32) -> i32;
    fn response_head(handle: u32, buffer: *mut u8, len: usize, status: *mut u32, stored: *mut usize) -> i32;
    fn response_read(handle: u32, buffer: *mut u8, len: usize, stored: *mut usize) -> i32;
    fn close(handle: u32) -> i32;
}

fn checked(result: i32) -> Result<(), Failure> {
    if result == 0 {
        Ok(())
    } else {
        Err(Failure(result))
    }
}

/// How much body a request has.
pub enum Body {
    None,
    Bytes(u64),
    /// As much as is written until `finish`.
    Streamed,
}

/// A request that was begun. Its body is written with `io::Write`; dropped, it is given up.
pub struct Request {
    handle: u32,
}

impl Request {
    /// Sends the head. Host, Content-Length and their like are written for you.
    pub fn open(method: &str, url: &str, headers: &[(&str, &str)], body: Body) -> Result<Request, Failure> {
        let lines: String = headers.iter().map(|(name, value)| format!("{}: {}\r\n", name, value)).collect();
        let body_bytes = match body {
            Body::None => 0,
            Body::Bytes(bytes) => i64::try_from(bytes).map_err(|_| Failure::INVALID)?,
            Body::Streamed => -1,
        };
        let mut handle = 0;
        checked(unsafe {
            request_open(
                method.as_ptr(),
                method.len(),
                url.as_ptr(),
                url.len(),
                lines.as_ptr(),
                lines.len(),
                body_bytes,
                &mut handle,
            )
        })?;
        Ok(Request { handle })
    }

    /// Ends the body, if there is one, and waits for the response.
    pub fn finish(self) -> Result<Response, Failure> {
        // Whoever does not read the body to its end may answer all the same.
        match unsafe { request_finish(self.handle) } {
            0 | 8 => Response::read(self),
            other => Err(Failure(other)),
        }
    }
}

impl io::Write for Request {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        checked(unsafe { request_write(self.handle, data.as_ptr(), data.len()) })?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        unsafe { close(self.handle) };
    }
}

/// A response; its body is read with `io::Read`.
pub struct Response {
    pub status: u32,
    /// In the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    request: Request,
}

impl Response {
    fn read(request: Request) -> Result<Response, Failure> {
        let mut buffer = vec![0u8; 80 * 1024];
        let (mut status, mut stored) = (0, 0);
        checked(unsafe {
            response_head(request.handle, buffer.as_mut_ptr(), buffer.len(), &mut status, &mut stored)
        })?;
        let headers = buffer[..stored]
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let colon = line.iter().position(|byte| *byte == b':')?;
                let value = line.get(colon + 2..).unwrap_or(b"");
                Some((String::from_utf8_lossy(&line[..colon]).into_owned(), value.to_vec()))
            })
            .collect();
        Ok(Response { status, headers, request })
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }
}

impl io::Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stored = 0;
        checked(unsafe { response_read(self.request.handle, buffer.as_mut_ptr(), buffer.len(), &mut stored) })?;
        Ok(stored)
    }
}
