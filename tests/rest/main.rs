//! The REST API of a running daemon: the vendor's Python client, the OpenAPI document, committed responses, bad input,
//! TLS, crashes, export, and keys that are used over both REST and PKCS#11. Each test has its own KMS.
//!
//! One test: `cargo test -p kms-tests --test rest tls::plain_http`.
#![allow(missing_docs, reason = "tests")]

mod access_scope;
mod audit;
mod bad_input;
mod both_apis;
mod crash;
mod document;
mod export;
mod fairness;
mod rebuild;
mod sdk;
mod snapshots;
mod tls;
