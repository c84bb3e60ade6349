//! Plain text out of what may be compressed: gzip and zstd, told by their first bytes.
//!
//! A file of several gzip members or zstd frames, as log rotation and parallel compressors
//! write them, is read to its last. A file that is cut off is an error of kind
//! [`io::ErrorKind::UnexpectedEof`], after all the text that could be read. The memory for a
//! zstd window is bounded by the library's default of 128 MiB.

use std::io::{self, BufRead, Cursor, Read};

/// How many bytes tell the compression.
pub const MAGIC_BYTES: usize = 4;
/// The first bytes of a gzip member (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of a zstd frame (RFC 8878), little-endian.
const ZSTD_MAGIC: u32 = 0xfd2f_b528;
/// The first bytes of a zstd frame that is to be skipped, less its four lowest bits.
const ZSTD_SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// A reader of the plain bytes of `reader`, which may be gzip, zstd or plain already.
///
/// # Errors
/// Those of `reader` on its first bytes. The reader that is given back fails where the
/// compressed data is broken or cut off.
///
/// ```
/// use std::io::Read;
/// let packed = zstd::encode_all(&b"a line\n"[..], 1)?;
/// let mut text = String::new();
/// ninefold_engine::decode::compress::plain(&packed[..])?.read_to_string(&mut text)?;
/// assert_eq!(text, "a line\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn plain<'r>(mut reader: impl BufRead + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let mut head = Vec::with_capacity(MAGIC_BYTES);
    // A pipe may give its first bytes one by one.
    reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
    let (gzip, zstd) = (is_gzip(&head), is_zstd(&head));
    let whole = Cursor::new(head).chain(reader);
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

/// Whether a text that begins with `head` is compressed: it takes [`MAGIC_BYTES`] to tell.
pub fn is_compressed(head: &[u8]) -> bool {
    is_gzip(head) || is_zstd(head)
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&GZIP_MAGIC)
}

fn is_zstd(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|head| {
        let magic = u32::from_le_bytes(*head);
        magic == ZSTD_MAGIC || magic & !0xf == ZSTD_SKIPPABLE_MAGIC
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).unwrap()
    }

    fn read(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        plain(packed)?.read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn all_members_and_frames_are_read() {
        let check = |packed: Vec<u8>, expected: &[u8]| assert_eq!(read(&packed).unwrap(), expected);
        check(gzip(b"a\nb\n"), b"a\nb\n");
        check([gzip(b"a\n"), gzip(b""), gzip(b"b\n")].concat(), b"a\nb\n");
        check(zstd(b"a\nb\n"), b"a\nb\n");
        check([zstd(b"a\n"), zstd(b""), zstd(b"b\n")].concat(), b"a\nb\n");
        let skipped = b"\x53\x2a\x4d\x18\x02\0\0\0xx".to_vec();
        check([skipped, zstd(b"a\n")].concat(), b"a\n");
    }

    #[test]
    fn plain_bytes_are_left_as_they_are() {
        for text in [&b""[..], b"a", b"\x1f", b"abc", b"abcd", b"{\"ts\":1}\n", b"\x28\xb5\x2f"] {
            assert_eq!(read(text).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_an_error() {
        let text = b"0123456789".repeat(100);
        for packed in [gzip(&text), zstd(&text)] {
            let error = read(&packed[..packed.len() - 5]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        }
    }

    #[test]
    fn bytes_that_arrive_one_by_one_are_recognised() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let size = buffer.len().min(1);
                self.0.read(&mut buffer[..size])
            }
        }
        let packed = gzip(b"a line\n");
        let mut text = Vec::new();
        let slow = io::BufReader::with_capacity(1, Slow(&packed));
        plain(slow).unwrap().read_to_end(&mut text).unwrap();
        assert_eq!(text, b"a line\n");
    }
}
