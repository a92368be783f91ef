//! Reads HTTP requests on the engine's side of a connection.

use tokio::io::{AsyncRead, AsyncReadExt};

/// `METHOD /path?query` without the version, and the body; `None` at the end of the connection.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let head = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, buffer).await?;
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    buffer.drain(..head);
    let header = |name: &str| {
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let body = if let Some(length) = header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            read_more(stream, buffer).await?;
        }
        buffer.drain(..length).collect()
    } else if header("transfer-encoding").is_some() {
        loop {
            if let Some(end) = find(buffer, b"\r\n0\r\n\r\n") {
                break buffer.drain(..end + 7).collect();
            }
            read_more(stream, buffer).await?;
        }
    } else {
        Vec::new()
    };
    let mut parts = text.split(' ');
    let (method, path) = (parts.next()?, parts.next()?);
    let path = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path.to_owned(),
    };
    Some((format!("{method} {path}"), body))
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(count) if count > 0 => Some(()),
        _ => None,
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
