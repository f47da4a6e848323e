//! What is called. Sessions and keys are named by their number in the sequence, modulo how many there are.

use kms_tests::raw::Room;
use proptest::prelude::*;

/// One call of an application.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Open { write: bool },
    Close { session: usize },
    CloseAll,
    State { session: usize },
    Login { session: usize, who: Who },
    Logout { session: usize },
    Generate { session: usize, kind: Kind, token: bool, label: u8, usage: Option<bool> },
    Destroy { session: usize, key: usize },
    Find { session: usize, label: u8 },
    FindClass { session: usize, kind: Kind },
    Attribute { session: usize, key: usize, attribute: Asked },
    Rename { session: usize, key: usize, label: u8 },
    EncryptInit { session: usize, key: usize, cipher: Cipher },
    DecryptInit { session: usize, key: usize, cipher: Cipher },
    Encrypt { session: usize, bytes: usize, room: Offer },
    EncryptUpdate { session: usize, bytes: usize },
    EncryptFinal { session: usize, room: Offer },
    RoundTrip { session: usize, key: usize, cipher: Cipher, bytes: usize },
    SignInit { session: usize, key: usize },
    Sign { session: usize, bytes: usize, room: Offer },
    SignUpdate { session: usize, bytes: usize },
    SignFinal { session: usize, room: Offer },
    DigestInit { session: usize },
    Digest { session: usize, bytes: usize, room: Offer },
}

/// Who logs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Who {
    User,
    Officer,
    Stranger,
}

/// What is generated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Aes,
    Secret,
}

/// How it is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cipher {
    Ecb,
    Cbc,
    CbcPad,
    Gcm,
}

/// What is asked of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    Class,
    Token,
    Label,
    ValueLen,
    Sensitive,
    Value,
    Modulus,
    Encrypt,
    Local,
    NeverExtractable,
}

/// Room for output: asked for, too little, enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Offer {
    RequestEnvelope,
    Little,
    Enough,
}

impl Offer {
    /// As a buffer.
    pub(crate) fn room(self) -> Room {
        match self {
            Self::RequestEnvelope => Room::RequestEnvelope,
            Self::Little => Room::Bytes(3),
            Self::Enough => Room::Bytes(4096),
        }
    }
}

/// A sequence of calls. Most begin as applications do: a session, a login, a key or two.
pub(crate) fn sequence(length: usize) -> impl Strategy<Value = Vec<Call>> {
    let key = |kind, token, label| Call::Generate { session: 0, kind, token, label, usage: None };
    let usual = vec![
        Call::Open { write: true },
        Call::Login { session: 0, who: Who::User },
        key(Kind::Aes, true, 0),
        key(Kind::Secret, true, 1),
    ];
    let beginning = prop_oneof![1 => Just(Vec::new()), 4 => Just(usual)];
    let rest = prop::collection::vec(any_call(), 1..length);
    (beginning, rest).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

/// Any call, the frequent ones more often.
fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => sessions(),
        8 => objects(),
        12 => ciphers(),
        8 => signatures(),
    ]
}

fn sessions() -> impl Strategy<Value = Call> {
    let number = 0..4_usize;
    prop_oneof![
        4 => prop::bool::weighted(0.8).prop_map(|write| Call::Open { write }),
        2 => number.clone().prop_map(|session| Call::Close { session }),
        1 => Just(Call::CloseAll),
        3 => number.clone().prop_map(|session| Call::State { session }),
        8 => number.clone().prop_map(|session| Call::Login { session, who: Who::User }),
        2 => number.clone().prop_map(|session| Call::Login { session, who: Who::Officer }),
        1 => number.clone().prop_map(|session| Call::Login { session, who: Who::Stranger }),
        2 => number.prop_map(|session| Call::Logout { session }),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::Aes), 2 => Just(Kind::Secret)]
}

fn objects() -> impl Strategy<Value = Call> {
    let (session, key, label) = (0..4_usize, 0..4_usize, 0..3_u8);
    let asked = prop::sample::select(vec![
        Asked::Class,
        Asked::Token,
        Asked::Label,
        Asked::ValueLen,
        Asked::Sensitive,
        Asked::Value,
        Asked::Modulus,
        Asked::Encrypt,
        Asked::Local,
        Asked::NeverExtractable,
    ]);
    prop_oneof![
        6 => (session.clone(), kind(), any::<bool>(), label.clone(), any::<Option<bool>>())
            .prop_map(|(session, kind, token, label, usage)| Call::Generate { session, kind, token, label, usage }),
        1 => (session.clone(), key.clone()).prop_map(|(session, key)| Call::Destroy { session, key }),
        3 => (session.clone(), label.clone()).prop_map(|(session, label)| Call::Find { session, label }),
        1 => (session.clone(), kind()).prop_map(|(session, kind)| Call::FindClass { session, kind }),
        4 => (session.clone(), key.clone(), asked)
            .prop_map(|(session, key, attribute)| Call::Attribute { session, key, attribute }),
        1 => (session, key, label).prop_map(|(session, key, label)| Call::Rename { session, key, label }),
    ]
}

fn cipher() -> impl Strategy<Value = Cipher> {
    prop::sample::select(vec![Cipher::Ecb, Cipher::Cbc, Cipher::CbcPad, Cipher::Gcm])
}

fn bytes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, 15, 16, 17, 32, 100])
}

fn offer() -> impl Strategy<Value = Offer> {
    prop::sample::select(vec![Offer::RequestEnvelope, Offer::Little, Offer::Enough])
}

fn ciphers() -> impl Strategy<Value = Call> {
    let (session, key) = (0..2_usize, 0..4_usize);
    prop_oneof![
        4 => (session.clone(), key.clone(), cipher())
            .prop_map(|(session, key, cipher)| Call::EncryptInit { session, key, cipher }),
        1 => (session.clone(), key.clone(), cipher())
            .prop_map(|(session, key, cipher)| Call::DecryptInit { session, key, cipher }),
        4 => (session.clone(), bytes(), offer())
            .prop_map(|(session, bytes, room)| Call::Encrypt { session, bytes, room }),
        3 => (session.clone(), bytes()).prop_map(|(session, bytes)| Call::EncryptUpdate { session, bytes }),
        2 => (session.clone(), offer()).prop_map(|(session, room)| Call::EncryptFinal { session, room }),
        3 => (session, key, cipher(), bytes())
            .prop_map(|(session, key, cipher, bytes)| Call::RoundTrip { session, key, cipher, bytes }),
    ]
}

fn signatures() -> impl Strategy<Value = Call> {
    let (session, key) = (0..2_usize, 0..4_usize);
    prop_oneof![
        3 => (session.clone(), key).prop_map(|(session, key)| Call::SignInit { session, key }),
        3 => (session.clone(), bytes(), offer()).prop_map(|(session, bytes, room)| Call::Sign { session, bytes, room }),
        2 => (session.clone(), bytes()).prop_map(|(session, bytes)| Call::SignUpdate { session, bytes }),
        2 => (session.clone(), offer()).prop_map(|(session, room)| Call::SignFinal { session, room }),
        2 => session.clone().prop_map(|session| Call::DigestInit { session }),
        2 => (session, bytes(), offer()).prop_map(|(session, bytes, room)| Call::Digest { session, bytes, room }),
    ]
}
