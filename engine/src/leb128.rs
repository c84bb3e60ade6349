//! Numbers in groups of seven bits, the low ones first: small ones take a byte.

/// Appends a number.
///
/// ```
/// let mut bytes = Vec::new();
/// ninefold_engine::leb128::push_number(&mut bytes, 127);
/// ninefold_engine::leb128::push_number(&mut bytes, 300);
/// assert_eq!(bytes, [127, 0xac, 2]);
/// ```
pub fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
