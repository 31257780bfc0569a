//! The one message of a unary gRPC request: its prefix and the compressed body
//! (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! tonic compresses too, but gzip at level 6, and has no setting for it. That was a quarter of what an attempt costs a
//! node, so the levels are chosen here (docs/decisions/0005-what-telling-costs.md).

use std::io::{self, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;

use super::options::Compression;

/// The flag and the length.
const PREFIX: usize = 5;

/// Of gzip: takes the first match that it finds, as zlib-rs does at low levels, and still makes Huffman codes of its own,
/// which level 1 does not.
const GZIP_LEVEL: u32 = 2;

/// Of zstd: below its default, 3.
const ZSTD_LEVEL: i32 = 1;

/// What telemetry shrinks to, at least, in most requests: the buffer's first size.
const USUAL_RATIO: usize = 6;

/// The value of `grpc-encoding`, none where it is not sent.
pub(super) fn encoding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// A message with its prefix.
///
/// # Errors
/// A body whose compressed length does not fit into 32 bits, and what the compressor says.
pub(super) fn message(body: &[u8], compression: Compression) -> io::Result<Bytes> {
    let room = if compression == Compression::None { body.len() } else { body.len() / USUAL_RATIO };
    let mut out = BytesMut::with_capacity(PREFIX + room);
    out.put_u8(u8::from(compression != Compression::None));
    out.put_u32(0);
    let mut writer = out.writer();
    match compression {
        Compression::None => writer.write_all(body)?,
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(&mut writer, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(body)?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            zstd::stream::copy_encode(body, &mut writer, ZSTD_LEVEL)?;
        }
    }
    let mut out = writer.into_inner();
    let length = u32::try_from(out.len() - PREFIX)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a request of more than 4 GiB"))?;
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn read_back(message: &[u8], compression: Compression) -> Vec<u8> {
        let (prefix, rest) = message.split_at(PREFIX);
        assert_eq!(prefix[0], u8::from(compression != Compression::None));
        assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, rest.len());
        let mut body = Vec::new();
        match compression {
            Compression::None => body.extend_from_slice(rest),
            Compression::Gzip => drop(flate2::read::GzDecoder::new(rest).read_to_end(&mut body).unwrap()),
            Compression::Zstd => zstd::stream::copy_decode(rest, &mut body).unwrap(),
        }
        body
    }

    #[test]
    fn reads_back() {
        let telling: Vec<u8> = (0..20_000u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        for body in [Vec::new(), b"a".to_vec(), telling] {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let message = message(&body, compression).unwrap();
                assert_eq!(read_back(&message, compression), body);
                if compression != Compression::None && body.len() > 1000 {
                    assert!(message.len() < body.len() / 2, "{compression:?}: {} of {}", message.len(), body.len());
                }
            }
        }
    }
}
