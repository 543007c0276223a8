//! Distinguished names (RFC 5280, section 4.1.2.4).

use std::fmt;

use crate::der::{Reader, SEQUENCE, SET, dotted};

/// The beginning of the object identifiers of X.520 attributes, 2.5.4.
const X520: [u8; 2] = [0x55, 0x04];
const COMMON_NAME: u8 = 3;
const ORGANIZATION: u8 = 10;

/// A distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName {
    /// The DER encoding. Go compares names by it.
    pub(crate) der: Box<[u8]>,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    kind: Box<[u8]>,
    value: String,
}

impl DistinguishedName {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let sequence = reader.element(SEQUENCE)?;
        let mut sets = Reader::new(sequence.content);
        let mut attributes = Vec::new();
        while !sets.is_empty() {
            let mut set = sets.nested(SET)?;
            while !set.is_empty() {
                let mut attribute = set.nested(SEQUENCE)?;
                let kind = attribute.object_identifier()?;
                let value = attribute.any()?;
                attributes.push(Attribute { kind: kind.into(), value: text(value.tag, value.content)? });
            }
        }
        Some(Self { der: sequence.bytes.into(), attributes })
    }

    /// Returns the common name. Of several, Go uses the last.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.x520(COMMON_NAME).last()
    }

    /// Returns the organizations in their order.
    pub fn organizations(&self) -> impl Iterator<Item = &str> {
        self.x520(ORGANIZATION)
    }

    fn x520(&self, attribute: u8) -> impl Iterator<Item = &str> {
        let wanted = [X520[0], X520[1], attribute];
        self.attributes.iter().filter(move |one| *one.kind == wanted).map(|one| one.value.as_str())
    }
}

/// Writes the attributes in their order, such as `O=example, CN=a`. The values are not escaped.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Attribute { kind, value }) in self.attributes.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match short(kind) {
                Some(short) => write!(f, "{short}={value}")?,
                None => write!(f, "{}={value}", dotted(kind))?,
            }
        }
        Ok(())
    }
}

/// Returns the short form of an attribute's name (RFC 4514, section 3).
fn short(kind: &[u8]) -> Option<&'static str> {
    let [first, second, attribute] = kind else { return None };
    if [*first, *second] != X520 {
        return None;
    }
    Some(match *attribute {
        COMMON_NAME => "CN",
        5 => "serialNumber",
        6 => "C",
        7 => "L",
        8 => "ST",
        9 => "STREET",
        ORGANIZATION => "O",
        11 => "OU",
        _ => return None,
    })
}

/// Decodes a string, with the checks and the leniency of Go.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    const NUMERIC: u8 = 0x12;
    const PRINTABLE: u8 = 0x13;
    const T61: u8 = 0x14;
    const IA5: u8 = 0x16;
    const BMP: u8 = 0x1e;
    const UTF8: u8 = 0x0c;
    let ascii = |allowed: fn(u8) -> bool| {
        content.iter().all(|byte| allowed(*byte)).then(|| content.iter().copied().map(char::from).collect())
    };
    match tag {
        UTF8 => String::from_utf8(content.to_vec()).ok(),
        PRINTABLE => ascii(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)),
        NUMERIC => ascii(|byte| byte.is_ascii_digit() || byte == b' '),
        IA5 => ascii(|byte| byte.is_ascii()),
        // As everybody does, T.61 is read as Latin-1.
        T61 => ascii(|_| true),
        BMP => {
            let (units, []) = content.as_chunks::<2>() else { return None };
            let units = units.strip_suffix(&[[0, 0]]).unwrap_or(units);
            units.iter().map(|unit| bmp_character(u16::from_be_bytes(*unit))).collect()
        }
        _ => None,
    }
}

/// Returns a character of the Basic Multilingual Plane; `None` for surrogates and noncharacters.
fn bmp_character(unit: u16) -> Option<char> {
    let is_noncharacter = matches!(unit, 0xfffe | 0xffff | 0xfdd0..=0xfdef);
    if is_noncharacter { None } else { char::from_u32(u32::from(unit)) }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn decodes_the_string_types_of_go() {
        assert_eq!(text(0x0c, "ä".as_bytes()).as_deref(), Some("ä"));
        assert_eq!(text(0x0c, &[0xff]), None);
        assert_eq!(text(0x13, b"a.b *&").as_deref(), Some("a.b *&"));
        assert_eq!(text(0x13, b"a_b"), None, "PrintableString has no underscore");
        assert_eq!(text(0x12, b"1 2").as_deref(), Some("1 2"));
        assert_eq!(text(0x12, b"a"), None);
        assert_eq!(text(0x16, b"a@b").as_deref(), Some("a@b"));
        assert_eq!(text(0x16, &[0x80]), None);
        assert_eq!(text(0x14, &[0xe4]).as_deref(), Some("ä"), "T.61 is read as Latin-1");
        assert_eq!(text(0x1e, &[0, b'a', 0, 0]).as_deref(), Some("a"));
        for invalid in [&[0][..], &[0xd8, 0], &[0xff, 0xfe]] {
            assert_eq!(text(0x1e, invalid), None);
        }
        assert_eq!(text(0x04, b"a"), None, "an octet string is no text");
    }
}
