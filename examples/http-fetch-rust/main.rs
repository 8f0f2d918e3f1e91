// Asks for each URL of its arguments, writes what comes to standard output, and says on standard error how it went. With
// BODY in the environment it posts that. Ends with 1 when a request failed or was answered with 400 or more.
mod weir_http;

use std::io::{copy, stdout, Write};
use weir_http::{Body, Request, Response};

fn main() {
    let body = std::env::var("BODY").ok();
    let mut failed = false;
    for url in std::env::args().skip(1) {
        match fetch(&url, body.as_deref()) {
            Ok(status) => {
                eprintln!("{}: {}", url, status);
                failed |= status >= 400;
            }
            Err(error) => {
                eprintln!("{}: {}", url, error);
                failed = true;
            }
        }
    }
    std::process::exit(failed as i32);
}

fn fetch(url: &str, body: Option<&str>) -> std::io::Result<u32> {
    let mut response = match body {
        None => Request::open("GET", url, &[], Body::None)?.finish()?,
        Some(text) => post(url, text)?,
    };
    if let Some(code) = response.header("Weir-Egress-Code") {
        eprintln!("refused: {}", String::from_utf8_lossy(code));
    }
    copy(&mut response, &mut stdout())?;
    Ok(response.status)
}

fn post(url: &str, text: &str) -> std::io::Result<Response> {
    let mut request = Request::open("POST", url, &[("Content-Type", "text/plain")], Body::Streamed)?;
    request.write_all(text.as_bytes())?;
    Ok(request.finish()?)
}
