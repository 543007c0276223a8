//! A DER encoder (X.690) that is sufficient to encode a kubelet's request again and compare it with the original.
//!
//! The operator and the signer use different parsers. If they interpreted the same bytes differently, the signer
//! could grant something that the operator did not check. A request whose parsed contents encode to the same bytes
//! excludes that.

/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET.
pub(super) const SET: u8 = 0x31;
/// `UTF8String`.
pub(super) const UTF8_STRING: u8 = 0x0c;
/// `PrintableString`.
pub(super) const PRINTABLE_STRING: u8 = 0x13;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// `attributes [0]` of a `CertificationRequestInfo` (RFC 2986, 4.1).
pub(super) const ATTRIBUTES: u8 = 0xa0;
/// `dNSName [2]` of a `GeneralName` (RFC 5280, 4.2.1.6).
pub(super) const DNS_NAME: u8 = 0x82;
/// `iPAddress [7]` of a `GeneralName`.
pub(super) const IP_ADDRESS: u8 = 0x87;
/// `version v1` of a `CertificationRequestInfo`.
pub(super) const VERSION_1: [u8; 3] = [0x02, 0x01, 0x00];
/// OBJECT IDENTIFIER 2.5.4.10, organizationName.
pub(super) const ORGANIZATION: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x0a];
/// OBJECT IDENTIFIER 2.5.4.3, commonName.
pub(super) const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
/// OBJECT IDENTIFIER 2.5.29.17, subjectAltName.
pub(super) const SUBJECT_ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];
/// OBJECT IDENTIFIER 1.2.840.113549.1.9.14, extensionRequest.
pub(super) const EXTENSION_REQUEST: [u8; 11] =
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// Encodes a tag, the length and the concatenated contents.
#[must_use]
pub(super) fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|content| content.len()).sum();
    let mut bytes = vec![tag];
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        bytes.push(short);
    } else {
        let big_endian = length.to_be_bytes();
        let digits: Vec<u8> = big_endian.into_iter().skip_while(|byte| *byte == 0).collect();
        bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
        bytes.extend(digits);
    }
    bytes.extend(contents.concat());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_lengths_in_the_shortest_form() {
        assert_eq!(tlv(SET, &[&[1], &[2, 3]]), [0x31, 3, 1, 2, 3]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 127]])[..2], [0x30, 127]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 128]])[..3], [0x30, 0x81, 128]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 300]])[..4], [0x30, 0x82, 1, 44]);
    }
}
