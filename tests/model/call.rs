//! The calls, and how they are generated. A session or key is a number modulo the count of those in the sequence.

use kms_tests::raw::OutputSize;
use proptest::prelude::*;

/// One call of an application.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Open { write: bool },
    Close { session: usize },
    CloseAll,
    State { session: usize },
    Login { session: usize, kind: LoginKind },
    Logout { session: usize },
    Generate { session: usize, kind: Kind, token: bool, label: u8, usage: Option<bool> },
    Destroy { session: usize, key: usize },
    Find { session: usize, label: u8 },
    FindClass { session: usize, kind: Kind },
    Attribute { session: usize, key: usize, attribute: AttributeKind },
    Rename { session: usize, key: usize, label: u8 },
    EncryptInit { session: usize, key: usize, cipher: Cipher },
    DecryptInit { session: usize, key: usize, cipher: Cipher },
    Encrypt { session: usize, bytes: usize, buffer: OutputBuffer },
    EncryptUpdate { session: usize, bytes: usize },
    EncryptFinal { session: usize, buffer: OutputBuffer },
    RoundTrip { session: usize, key: usize, cipher: Cipher, bytes: usize },
    SignInit { session: usize, key: usize },
    Sign { session: usize, bytes: usize, buffer: OutputBuffer },
    SignUpdate { session: usize, bytes: usize },
    SignFinal { session: usize, buffer: OutputBuffer },
    DigestInit { session: usize },
    Digest { session: usize, bytes: usize, buffer: OutputBuffer },
}

/// Which login is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LoginKind {
    User,
    Officer,
    WrongPin,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Aes,
    Secret,
}

/// An encryption mechanism.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cipher {
    Ecb,
    Cbc,
    CbcPad,
    Gcm,
}

/// An attribute that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AttributeKind {
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

/// The output buffer of a call: none (a length query), too small, or large enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputBuffer {
    Query,
    TooSmall,
    Enough,
}

impl OutputBuffer {
    /// The size to pass.
    pub(crate) fn size(self) -> OutputSize {
        match self {
            Self::Query => OutputSize::Query,
            Self::TooSmall => OutputSize::Bytes(3),
            Self::Enough => OutputSize::Bytes(4096),
        }
    }
}

/// A sequence of calls. Most start as applications do: with a session, a login and two keys.
pub(crate) fn sequence(length: usize) -> impl Strategy<Value = Vec<Call>> {
    let key = |kind, token, label| Call::Generate { session: 0, kind, token, label, usage: None };
    let common_start = vec![
        Call::Open { write: true },
        Call::Login { session: 0, kind: LoginKind::User },
        key(Kind::Aes, true, 0),
        key(Kind::Secret, true, 1),
    ];
    let start = prop_oneof![1 => Just(Vec::new()), 4 => Just(common_start)];
    let rest = prop::collection::vec(any_call(), 1..length);
    (start, rest).prop_map(|(start, rest)| [start, rest].concat())
}

/// Any call, with weights by how often applications use it.
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
        8 => number.clone().prop_map(|session| Call::Login { session, kind: LoginKind::User }),
        2 => number.clone().prop_map(|session| Call::Login { session, kind: LoginKind::Officer }),
        1 => number.clone().prop_map(|session| Call::Login { session, kind: LoginKind::WrongPin }),
        2 => number.prop_map(|session| Call::Logout { session }),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::Aes), 2 => Just(Kind::Secret)]
}

fn objects() -> impl Strategy<Value = Call> {
    let (session, key, label) = (0..4_usize, 0..4_usize, 0..3_u8);
    let attribute = prop::sample::select(vec![
        AttributeKind::Class,
        AttributeKind::Token,
        AttributeKind::Label,
        AttributeKind::ValueLen,
        AttributeKind::Sensitive,
        AttributeKind::Value,
        AttributeKind::Modulus,
        AttributeKind::Encrypt,
        AttributeKind::Local,
        AttributeKind::NeverExtractable,
    ]);
    prop_oneof![
        6 => (session.clone(), kind(), any::<bool>(), label.clone(), any::<Option<bool>>())
            .prop_map(|(session, kind, token, label, usage)| Call::Generate { session, kind, token, label, usage }),
        1 => (session.clone(), key.clone()).prop_map(|(session, key)| Call::Destroy { session, key }),
        3 => (session.clone(), label.clone()).prop_map(|(session, label)| Call::Find { session, label }),
        1 => (session.clone(), kind()).prop_map(|(session, kind)| Call::FindClass { session, kind }),
        4 => (session.clone(), key.clone(), attribute)
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

fn buffer() -> impl Strategy<Value = OutputBuffer> {
    prop::sample::select(vec![OutputBuffer::Query, OutputBuffer::TooSmall, OutputBuffer::Enough])
}

fn ciphers() -> impl Strategy<Value = Call> {
    let (session, key) = (0..2_usize, 0..4_usize);
    prop_oneof![
        4 => (session.clone(), key.clone(), cipher())
            .prop_map(|(session, key, cipher)| Call::EncryptInit { session, key, cipher }),
        1 => (session.clone(), key.clone(), cipher())
            .prop_map(|(session, key, cipher)| Call::DecryptInit { session, key, cipher }),
        4 => (session.clone(), bytes(), buffer())
            .prop_map(|(session, bytes, buffer)| Call::Encrypt { session, bytes, buffer }),
        3 => (session.clone(), bytes()).prop_map(|(session, bytes)| Call::EncryptUpdate { session, bytes }),
        2 => (session.clone(), buffer()).prop_map(|(session, buffer)| Call::EncryptFinal { session, buffer }),
        3 => (session, key, cipher(), bytes())
            .prop_map(|(session, key, cipher, bytes)| Call::RoundTrip { session, key, cipher, bytes }),
    ]
}

fn signatures() -> impl Strategy<Value = Call> {
    let (session, key) = (0..2_usize, 0..4_usize);
    prop_oneof![
        3 => (session.clone(), key).prop_map(|(session, key)| Call::SignInit { session, key }),
        3 => (session.clone(), bytes(), buffer())
            .prop_map(|(session, bytes, buffer)| Call::Sign { session, bytes, buffer }),
        2 => (session.clone(), bytes()).prop_map(|(session, bytes)| Call::SignUpdate { session, bytes }),
        2 => (session.clone(), buffer()).prop_map(|(session, buffer)| Call::SignFinal { session, buffer }),
        2 => session.clone().prop_map(|session| Call::DigestInit { session }),
        2 => (session, bytes(), buffer())
            .prop_map(|(session, bytes, buffer)| Call::Digest { session, bytes, buffer }),
    ]
}
