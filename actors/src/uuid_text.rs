//! The text of topic and cluster ids, as Kafka prints them: URL-safe base64 without padding, 22 characters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Returns the text of an id.
pub fn encode_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Reads the text of an id; `None` when it is none.
pub fn decode_id(text: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_base64() {
        // The bytes 0, 1, 2 … 15, by any base64 tool.
        let id = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(encode_id(id), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(encode_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(encode_id(Uuid::max()), "_____________________w");
        for id in [id, Uuid::nil(), Uuid::max(), Uuid::from_u128(1)] {
            assert_eq!(decode_id(&encode_id(id)), Some(id));
        }
    }

    #[test]
    fn other_text_is_no_id() {
        for text in [
            "",
            "AAECAwQFBgcICQoLDA0ODx",
            "AAECAwQFBgcICQoLDA0OD+",
            "AAECAwQFBgcICQoLDA0ODwA",
        ] {
            assert_eq!(decode_id(text), None, "{text}");
        }
    }
}
