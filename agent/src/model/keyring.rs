//! The keys of the data plane, off the wire.

use isocast_api::agent as wire;
use isocast_dataplane::{FlowKey, KeyTag, Keyring};

/// Keys, and what the controller calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Told back once they are in force.
    pub id: String,
    /// The keys.
    pub ring: Keyring,
}

/// Most keys of one kind.
const SEVERAL: usize = 2;

impl Keys {
    /// Keys that are all there, as long as they must be, and no more of them than there may be.
    pub(super) fn parse(wire: Option<&wire::Keyring>) -> Result<Self, String> {
        let wire = wire.ok_or("keyring: required")?;
        let believed: Vec<KeyTag> = several(&wire.believed_tags, "believed_tags")?;
        let sent = KeyTag(bytes(&wire.sent_tag, "sent_tag")?);
        let believed = match believed.as_slice() {
            [one] => [*one; 2],
            [one, other] => [*one, *other],
            _ => return Err("keyring.believed_tags: required".to_owned()),
        };
        if [sent, believed[0], believed[1]].contains(&KeyTag::default()) {
            return Err("keyring: a key tag of zeros".to_owned());
        }
        Ok(Self {
            id: wire.id.clone(),
            ring: Keyring {
                sent,
                believed,
                flow: FlowKey(bytes(&wire.flow_key, "flow_key")?),
                other_flows: several(&wire.other_flow_keys, "other_flow_keys")?,
            },
        })
    }
}

fn several<const N: usize, K: From<[u8; N]>>(
    wire: &[Vec<u8>],
    name: &str,
) -> Result<Vec<K>, String> {
    if wire.len() > SEVERAL {
        return Err(format!("keyring.{name}: at most {SEVERAL}, not {}", wire.len()));
    }
    wire.iter().map(|key| bytes(key, name).map(K::from)).collect()
}

fn bytes<const N: usize>(wire: &[u8], name: &str) -> Result<[u8; N], String> {
    let wrong = |_length| format!("keyring.{name}: {N} bytes, not {}", wire.len());
    wire.try_into().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    fn refusal(change: impl FnOnce(&mut wire::Keyring)) -> String {
        let mut wire = testing::keyring();
        change(&mut wire);
        Keys::parse(Some(&wire)).unwrap_err()
    }

    #[test]
    fn one_tag_is_believed_or_two() {
        let mut wire = testing::keyring();
        wire.other_flow_keys = vec![vec![3; 16]];
        let one = Keys::parse(Some(&wire)).unwrap();
        wire.believed_tags.push(vec![2; 4]);
        let two = Keys::parse(Some(&wire)).unwrap();

        assert_eq!(one.ring.believed, [KeyTag([7; 4]); 2]);
        assert_eq!(two.ring.believed, [KeyTag([7; 4]), KeyTag([2; 4])]);
        assert_eq!(two.ring.other_flows, [FlowKey([3; 16])]);
    }

    #[test]
    fn keys_that_are_missing_too_many_or_of_another_length_are_refused() {
        assert_eq!(Keys::parse(None).unwrap_err(), "keyring: required");
        for (found, expected) in [
            (refusal(|it| it.sent_tag.clear()), "keyring.sent_tag: 4 bytes, not 0"),
            (refusal(|it| it.sent_tag = vec![0; 4]), "keyring: a key tag of zeros"),
            (refusal(|it| it.believed_tags.clear()), "keyring.believed_tags: required"),
            (
                refusal(|it| it.believed_tags = vec![vec![1; 4]; 3]),
                "keyring.believed_tags: at most 2, not 3",
            ),
            (refusal(|it| it.flow_key.push(1)), "keyring.flow_key: 16 bytes, not 17"),
            (
                refusal(|it| it.other_flow_keys = vec![vec![1; 8]]),
                "keyring.other_flow_keys: 16 bytes, not 8",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
