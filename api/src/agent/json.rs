//! Proto3 JSON forms of the fields that serde's derive would spell otherwise: enum values by
//! name, bytes as base64.

/// A module that (de)serialises one enum, stored as `i32`, by its protobuf name.
macro_rules! by_name {
    ($module:ident, one $kind:ident) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            use crate::agent::$kind;

            pub(crate) fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str($kind::try_from(*value).unwrap_or_default().as_str_name())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
                let name = String::deserialize(from)?;
                let kind = $kind::from_str_name(&name);
                kind.map(i32::from)
                    .ok_or_else(|| D::Error::custom(format!("unknown name {name:?}")))
            }
        }
    };
    ($module:ident, many $kind:ident) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            use crate::agent::$kind;

            pub(crate) fn serialize<S: Serializer>(all: &[i32], to: S) -> Result<S::Ok, S::Error> {
                let names = all.iter().map(|v| $kind::try_from(*v).unwrap_or_default());
                to.collect_seq(names.map(|kind| kind.as_str_name()))
            }

            pub(crate) fn deserialize<'de, D>(from: D) -> Result<Vec<i32>, D::Error>
            where
                D: Deserializer<'de>,
            {
                let parse = |name: String| {
                    let kind = $kind::from_str_name(&name);
                    kind.map(i32::from)
                        .ok_or_else(|| D::Error::custom(format!("unknown name {name:?}")))
                };
                Vec::<String>::deserialize(from)?.into_iter().map(parse).collect()
            }
        }
    };
}

by_name!(connection, one Connection);
by_name!(families, many AddressFamily);
by_name!(fragment_handling, one FragmentHandling);
by_name!(on_no_local_backend, one OnNoLocalBackend);
by_name!(peer_role, one PeerRole);
by_name!(protocol, one Protocol);
by_name!(roles, many Role);
by_name!(xdp_mode, one XdpMode);

/// Bytes as standard base64.
pub(super) mod base64 {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Several of them.
pub(super) mod base64_list {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(all: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Vec<Vec<u8>>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let decode = |text| STANDARD.decode(text).map_err(D::Error::custom);
        Vec::<String>::deserialize(from)?.into_iter().map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::{Entry, Keyring, Node, Role, entry::Value};

    #[test]
    fn an_entry_reads_and_writes_as_proto3_json() {
        let node = Node {
            name: "edge-1".into(),
            roles: vec![Role::Edge.into()],
            keyring: Some(Keyring {
                sent_tag: vec![1, 2, 3],
                believed_tags: vec![vec![1, 2, 3], vec![4]],
                ..Keyring::default()
            }),
            ..Node::default()
        };
        let entry = Entry { key: "node".into(), value: Some(Value::Node(node)) };

        let json = serde_json::to_value(&entry).unwrap();

        assert_eq!(json["value"]["node"]["roles"][0], "ROLE_EDGE");
        let keyring = &json["value"]["node"]["keyring"];
        assert_eq!(keyring["sentTag"], "AQID");
        assert_eq!(keyring["believedTags"], serde_json::json!(["AQID", "BA=="]));
        assert_eq!(serde_json::from_value::<Entry>(json).unwrap(), entry);
    }

    #[test]
    fn an_unknown_enum_name_is_refused_by_name() {
        let refused = serde_json::from_str::<Node>(r#"{"roles":["ROLE_ROOF"]}"#).unwrap_err();

        assert!(refused.to_string().contains("ROLE_ROOF"), "{refused}");
    }
}
