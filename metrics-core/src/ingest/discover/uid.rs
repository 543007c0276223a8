//! UIDs of objects in a compact form.

/// A UID. A UUID, which all UIDs of Kubernetes are, needs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Uid {
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl Uid {
    /// Parses the UID; text that is not a lower-case UUID is kept as it is.
    pub(super) fn new(text: &str) -> Self {
        let mut uuid = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut uuid {
            let (Some(high), Some(low)) = (digits.next().and_then(hex), digits.next().and_then(hex)) else {
                return Self::Other(text.into());
            };
            *byte = high << 4 | low;
        }
        if text.len() == 36 && digits.next().is_none() { Self::Uuid(uuid) } else { Self::Other(text.into()) }
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Uid;

    #[test]
    fn keeps_uids_that_are_not_uuids_as_text() {
        let uuid = "0c4f3a7e-9d5b-4b6e-8a44-d1b0f1d1a001";
        assert!(matches!(Uid::new(uuid), Uid::Uuid(_)));
        assert_ne!(Uid::new(uuid), Uid::new(&uuid.replace('1', "2")));
        for odd in ["", "x", &uuid[1..], &uuid.replace('-', ""), &format!("{uuid}0"), &uuid.to_uppercase()] {
            assert_eq!(Uid::new(odd), Uid::Other(odd.into()));
        }
    }
}
