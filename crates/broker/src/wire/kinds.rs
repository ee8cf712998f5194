//! Every kind of request that is understood: its versions, and where the lengths in it are.
//!
//! The facts are those of the protocol's own descriptions (kafka.apache.org/protocol). The last
//! version that is understood is below the last that exists where the newer one asks for something
//! that is not done here: Produce 12 and its companions (transactions that begin by themselves,
//! KIP-890), Fetch 17 (folders of replicas), FindCoordinator 5 and up (share groups). Clients take
//! the highest version that both sides know.

use kafka_protocol::messages::ApiKey;

use self::Shape::{Bytes, Fixed, Items, List, Text, Texts};

/// A kind of request.
#[derive(Debug)]
pub struct Kind {
    /// Which it is.
    pub key: ApiKey,
    /// The first version that is understood.
    pub least: i16,
    /// The last version that is understood.
    pub most: i16,
    /// The first with compact lengths and tagged fields (KIP-482).
    pub flexible: i16,
    /// What it consists of, in order.
    pub(super) fields: &'static [Field],
}

/// One part of a request, in these versions.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) from: i16,
    pub(super) to: i16,
    pub(super) shape: Shape,
}

/// How long a part is.
#[derive(Debug)]
pub(super) enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A text, or none.
    Text,
    /// Bytes, or none.
    Bytes,
    /// Elements of so many bytes.
    Items(usize),
    /// Texts.
    Texts,
    /// Elements that have parts.
    List(&'static [Field]),
}

/// No version of it is flexible.
const RIGID: i16 = i16::MAX;

impl Kind {
    /// The versions that are understood.
    pub fn versions(&self) -> std::ops::RangeInclusive<i16> {
        self.least..=self.most
    }
}

/// The kind of this number, if it is understood.
pub fn kind(key: i16) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.key as i16 == key)
}

const fn between(from: i16, to: i16, shape: Shape) -> Field {
    Field { from, to, shape }
}

const fn all(shape: Shape) -> Field {
    between(0, i16::MAX, shape)
}

const fn since(from: i16, shape: Shape) -> Field {
    between(from, i16::MAX, shape)
}

const fn until(to: i16, shape: Shape) -> Field {
    between(0, to, shape)
}

/// All of them.
pub const KINDS: &[Kind] = &[
    Kind {
        key: ApiKey::Produce,
        least: 3,
        most: 11,
        flexible: 9,
        fields: &[
            all(Text),
            all(Fixed(2)),
            all(Fixed(4)),
            all(List(&[all(Text), all(List(&[all(Fixed(4)), all(Bytes)]))])),
        ],
    },
    Kind {
        key: ApiKey::Fetch,
        least: 4,
        most: 16,
        flexible: 12,
        fields: &[
            until(14, Fixed(4)),
            all(Fixed(4)),
            all(Fixed(4)),
            all(Fixed(4)),
            all(Fixed(1)),
            since(7, Fixed(4)),
            since(7, Fixed(4)),
            all(List(&[
                until(12, Text),
                since(13, Fixed(16)),
                all(List(&[
                    all(Fixed(4)),
                    since(9, Fixed(4)),
                    all(Fixed(8)),
                    since(12, Fixed(4)),
                    since(5, Fixed(8)),
                    all(Fixed(4)),
                ])),
            ])),
            since(
                7,
                List(&[
                    between(7, 12, Text),
                    since(13, Fixed(16)),
                    since(7, Items(4)),
                ]),
            ),
            since(11, Text),
        ],
    },
    Kind {
        key: ApiKey::ListOffsets,
        least: 1,
        most: 7,
        flexible: 6,
        fields: &[
            all(Fixed(4)),
            since(2, Fixed(1)),
            all(List(&[
                all(Text),
                all(List(&[all(Fixed(4)), since(4, Fixed(4)), all(Fixed(8))])),
            ])),
        ],
    },
    Kind {
        key: ApiKey::Metadata,
        least: 0,
        most: 12,
        flexible: 9,
        fields: &[
            all(List(&[since(10, Fixed(16)), all(Text)])),
            since(4, Fixed(1)),
            between(8, 10, Fixed(1)),
            since(8, Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::OffsetCommit,
        least: 2,
        most: 9,
        flexible: 8,
        fields: &[
            all(Text),
            all(Fixed(4)),
            all(Text),
            since(7, Text),
            until(4, Fixed(8)),
            all(List(&[
                all(Text),
                all(List(&[
                    all(Fixed(4)),
                    all(Fixed(8)),
                    since(6, Fixed(4)),
                    all(Text),
                ])),
            ])),
        ],
    },
    Kind {
        key: ApiKey::OffsetFetch,
        least: 1,
        most: 9,
        flexible: 6,
        fields: &[
            until(7, Text),
            until(7, List(&[until(7, Text), until(7, Items(4))])),
            since(
                8,
                List(&[
                    since(8, Text),
                    since(9, Text),
                    since(9, Fixed(4)),
                    since(8, List(&[since(8, Text), since(8, Items(4))])),
                ]),
            ),
            since(7, Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::FindCoordinator,
        least: 0,
        most: 4,
        flexible: 3,
        fields: &[until(3, Text), since(1, Fixed(1)), since(4, Texts)],
    },
    Kind {
        key: ApiKey::JoinGroup,
        least: 0,
        most: 9,
        flexible: 6,
        fields: &[
            all(Text),
            all(Fixed(4)),
            since(1, Fixed(4)),
            all(Text),
            since(5, Text),
            all(Text),
            all(List(&[all(Text), all(Bytes)])),
            since(8, Text),
        ],
    },
    Kind {
        key: ApiKey::Heartbeat,
        least: 0,
        most: 4,
        flexible: 4,
        fields: &[all(Text), all(Fixed(4)), all(Text), since(3, Text)],
    },
    Kind {
        key: ApiKey::LeaveGroup,
        least: 0,
        most: 5,
        flexible: 4,
        fields: &[
            all(Text),
            until(2, Text),
            since(3, List(&[since(3, Text), since(3, Text), since(5, Text)])),
        ],
    },
    Kind {
        key: ApiKey::SyncGroup,
        least: 0,
        most: 5,
        flexible: 4,
        fields: &[
            all(Text),
            all(Fixed(4)),
            all(Text),
            since(3, Text),
            since(5, Text),
            since(5, Text),
            all(List(&[all(Text), all(Bytes)])),
        ],
    },
    Kind {
        key: ApiKey::DescribeGroups,
        least: 0,
        most: 5,
        flexible: 5,
        fields: &[all(Texts), since(3, Fixed(1))],
    },
    Kind {
        key: ApiKey::ListGroups,
        least: 0,
        most: 5,
        flexible: 3,
        fields: &[since(4, Texts), since(5, Texts)],
    },
    Kind {
        key: ApiKey::SaslHandshake,
        least: 0,
        most: 1,
        flexible: RIGID,
        fields: &[all(Text)],
    },
    Kind {
        key: ApiKey::ApiVersions,
        least: 0,
        most: 4,
        flexible: 3,
        fields: &[since(3, Text), since(3, Text)],
    },
    Kind {
        key: ApiKey::CreateTopics,
        least: 2,
        most: 7,
        flexible: 5,
        fields: &[
            all(List(&[
                all(Text),
                all(Fixed(4)),
                all(Fixed(2)),
                all(List(&[all(Fixed(4)), all(Items(4))])),
                all(List(&[all(Text), all(Text)])),
            ])),
            all(Fixed(4)),
            all(Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::DeleteTopics,
        least: 1,
        most: 6,
        flexible: 4,
        fields: &[
            since(6, List(&[since(6, Text), since(6, Fixed(16))])),
            until(5, Texts),
            all(Fixed(4)),
        ],
    },
    Kind {
        key: ApiKey::DeleteRecords,
        least: 0,
        most: 2,
        flexible: 2,
        fields: &[
            all(List(&[
                all(Text),
                all(List(&[all(Fixed(4)), all(Fixed(8))])),
            ])),
            all(Fixed(4)),
        ],
    },
    Kind {
        key: ApiKey::InitProducerId,
        least: 0,
        most: 4,
        flexible: 2,
        fields: &[
            all(Text),
            all(Fixed(4)),
            since(3, Fixed(8)),
            since(3, Fixed(2)),
        ],
    },
    Kind {
        key: ApiKey::AddPartitionsToTxn,
        least: 0,
        most: 3,
        flexible: 3,
        fields: &[
            all(Text),
            all(Fixed(8)),
            all(Fixed(2)),
            all(List(&[all(Text), all(Items(4))])),
        ],
    },
    Kind {
        key: ApiKey::AddOffsetsToTxn,
        least: 0,
        most: 3,
        flexible: 3,
        fields: &[all(Text), all(Fixed(8)), all(Fixed(2)), all(Text)],
    },
    Kind {
        key: ApiKey::EndTxn,
        least: 0,
        most: 3,
        flexible: 3,
        fields: &[all(Text), all(Fixed(8)), all(Fixed(2)), all(Fixed(1))],
    },
    Kind {
        key: ApiKey::TxnOffsetCommit,
        least: 0,
        most: 3,
        flexible: 3,
        fields: &[
            all(Text),
            all(Text),
            all(Fixed(8)),
            all(Fixed(2)),
            since(3, Fixed(4)),
            since(3, Text),
            since(3, Text),
            all(List(&[
                all(Text),
                all(List(&[
                    all(Fixed(4)),
                    all(Fixed(8)),
                    since(2, Fixed(4)),
                    all(Text),
                ])),
            ])),
        ],
    },
    Kind {
        key: ApiKey::DescribeConfigs,
        least: 1,
        most: 4,
        flexible: 4,
        fields: &[
            all(List(&[all(Fixed(1)), all(Text), all(Texts)])),
            all(Fixed(1)),
            since(3, Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::AlterConfigs,
        least: 0,
        most: 2,
        flexible: 2,
        fields: &[
            all(List(&[
                all(Fixed(1)),
                all(Text),
                all(List(&[all(Text), all(Text)])),
            ])),
            all(Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::IncrementalAlterConfigs,
        least: 0,
        most: 1,
        flexible: 1,
        fields: &[
            all(List(&[
                all(Fixed(1)),
                all(Text),
                all(List(&[all(Text), all(Fixed(1)), all(Text)])),
            ])),
            all(Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::CreatePartitions,
        least: 0,
        most: 3,
        flexible: 2,
        fields: &[
            all(List(&[
                all(Text),
                all(Fixed(4)),
                all(List(&[all(Items(4))])),
            ])),
            all(Fixed(4)),
            all(Fixed(1)),
        ],
    },
    Kind {
        key: ApiKey::DeleteGroups,
        least: 0,
        most: 2,
        flexible: 2,
        fields: &[all(Texts)],
    },
    Kind {
        key: ApiKey::OffsetDelete,
        least: 0,
        most: 0,
        flexible: RIGID,
        fields: &[
            all(Text),
            all(List(&[all(Text), all(List(&[all(Fixed(4))]))])),
        ],
    },
    Kind {
        key: ApiKey::DescribeProducers,
        least: 0,
        most: 0,
        flexible: 0,
        fields: &[all(List(&[all(Text), all(Items(4))]))],
    },
    Kind {
        key: ApiKey::DescribeTransactions,
        least: 0,
        most: 0,
        flexible: 0,
        fields: &[all(Texts)],
    },
    Kind {
        key: ApiKey::ListTransactions,
        least: 0,
        most: 2,
        flexible: 0,
        fields: &[
            all(Texts),
            all(Items(8)),
            since(1, Fixed(8)),
            since(2, Text),
        ],
    },
    Kind {
        key: ApiKey::DescribeLogDirs,
        least: 1,
        most: 4,
        flexible: 2,
        fields: &[all(List(&[all(Text), all(Items(4))]))],
    },
    Kind {
        key: ApiKey::DescribeCluster,
        least: 0,
        most: 1,
        flexible: 0,
        fields: &[all(Fixed(1)), since(1, Fixed(1))],
    },
    Kind {
        key: ApiKey::OffsetForLeaderEpoch,
        least: 2,
        most: 4,
        flexible: 4,
        fields: &[
            since(3, Fixed(4)),
            all(List(&[
                all(Text),
                all(List(&[all(Fixed(4)), all(Fixed(4)), all(Fixed(4))])),
            ])),
        ],
    },
    Kind {
        key: ApiKey::SaslAuthenticate,
        least: 0,
        most: 2,
        flexible: 2,
        fields: &[all(Bytes)],
    },
];
