//! The REST door from outside: the vendor's own client, the API's document, bad input, and one world with PKCS#11.
#![allow(missing_docs, reason = "tests")]

mod audit;
mod bad_input;
mod crash;
mod document;
mod export;
mod one_world;
mod rebuild;
mod sdk;
mod snapshots;
mod tls;
