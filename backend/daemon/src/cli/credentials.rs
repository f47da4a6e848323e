//! `kms token` and `kms account key`: the credentials of service accounts. Each secret is displayed or written once.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use kms_crypto::PUBLIC_KEY_FILE_BYTES_MAX;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::arguments::{
    AccountKey, AccountKeyAdd, AccountKeyCreate, AccountKeyList, AccountKeyRevoke, Token, TokenCreate,
    TokenList, TokenRevoke,
};
use super::failure::Failure;
use super::home::{Home, write_new};
use super::output;
use crate::service::{AccountKeyInfo, Backend, TokenInfo};

/// `kms token`.
pub(super) fn tokens(command: Token, argv: &[OsString]) -> Result<(), Failure> {
    match command {
        Token::Create(create) => create_token(create, argv),
        Token::List(list) => list_tokens(list, argv),
        Token::Revoke(revoke) => revoke_token(revoke, argv),
    }
}

fn create_token(arguments: TokenCreate, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    if let Some(out) = &arguments.out {
        ensure_absent(out)?;
    }
    let account = arguments.account;
    let token = backend.create_token(&account, &arguments.name, arguments.expires_in)?;
    let expires = token.expires.map(output::time);
    if let Some(out) = &arguments.out {
        let written = write_new(out, 0o600, &Zeroizing::new(format!("{}\n", *token.text)));
        if let Err(failure) = written {
            // The token cannot be read any more.
            backend.revoke_token(&account, &token.id.to_string())?;
            return Err(failure);
        }
    }
    let until = expires.as_deref().map_or_else(|| "until revoked".to_owned(), |end| format!("until {end}"));
    let mut json = json!({ "id": token.id, "account": account, "name": token.name, "expires": expires });
    match &arguments.out {
        Some(out) => {
            json["file"] = json!(out.to_string_lossy());
            let message =
                format!("token {:?} of {account} is in {}; it is valid {until}", token.name, out.display());
            output::result(arguments.output.json, &json, &message);
        }
        None if arguments.output.json => {
            json["token"] = json!(*token.text);
            output::json(&json);
        }
        None => {
            output::line(&token.text);
            output::note(&format!(
                "this token is displayed only once; {:?} of {account} is valid {until}",
                token.name
            ));
        }
    }
    Ok(())
}

fn list_tokens(arguments: TokenList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let tokens = Backend::open(&home.open(argv)?)?.tokens(arguments.account.as_deref())?;
    if arguments.output.json {
        output::json(&tokens.iter().map(token_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let (expires, used) = (time_or(token.expires, "never"), time_or(token.used, "never"));
            [token.account, token.name, output::time(token.created), expires, used, token.id.to_string()]
        })
        .collect();
    output::table(["ACCOUNT", "NAME", "CREATED", "EXPIRES", "LAST USED", "ID"], &rows, "no tokens");
    Ok(())
}

fn revoke_token(arguments: TokenRevoke, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let (account, token) = (arguments.account, arguments.token);
    Backend::open(&home.open(argv)?)?.revoke_token(&account, &token)?;
    let json = json!({ "account": account, "revoked": token });
    output::result(arguments.output.json, &json, &format!("token {token:?} of {account} revoked"));
    Ok(())
}

/// `kms account key`.
pub(super) fn keys(command: AccountKey, argv: &[OsString]) -> Result<(), Failure> {
    match command {
        AccountKey::Create(create) => create_key(create, argv),
        AccountKey::Add(add) => add_key(add, argv),
        AccountKey::List(list) => list_keys(list, argv),
        AccountKey::Revoke(revoke) => revoke_key(revoke, argv),
    }
}

fn create_key(arguments: AccountKeyCreate, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    ensure_absent(&arguments.out)?;
    let (key, private) =
        backend.create_account_key(&arguments.account, arguments.algorithm.into(), arguments.expires_in)?;
    let mut file = key_file(&key, arguments.token_endpoint.as_deref());
    file["credentials"]["privateKey"] = json!(*private);
    let text = Zeroizing::new(format!("{file:#}\n"));
    if let Err(failure) = write_new(&arguments.out, 0o600, &text) {
        backend.revoke_account_key(&key.id.to_string())?;
        return Err(failure);
    }
    let out = arguments.out.display();
    let json = json!({ "id": key.id, "account": key.email, "file": arguments.out.to_string_lossy() });
    output::result(arguments.output.json, &json, &format!("key {} of {} is in {out}", key.id, key.email));
    Ok(())
}

fn add_key(arguments: AccountKeyAdd, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let path = &arguments.public_key;
    let unreadable = |error: std::io::Error| {
        let next = "name a file with a public key in PEM";
        Failure::because(format!("{} cannot be read", path.display()), &error, next)
    };
    let mut text = String::new();
    let limit = u64::try_from(PUBLIC_KEY_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(unreadable)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let key = backend.add_account_key(&arguments.account, &text, arguments.expires_in)?;
    if arguments.output.json {
        output::json(&key_file(&key, arguments.token_endpoint.as_deref()));
        return Ok(());
    }
    output::line(&format!("key {} of {} added", key.id, key.email));
    output::line(&format!(
        "claims of its assertions: iss {}, sub {}, aud {}",
        key.email, key.account, key.audience
    ));
    Ok(())
}

fn list_keys(arguments: AccountKeyList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let keys = Backend::open(&home.open(argv)?)?.account_keys(arguments.account.as_deref())?;
    if arguments.output.json {
        output::json(&keys.iter().map(|key| key_file(key, None)).collect());
        return Ok(());
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let state = match (key.active, key.revoked) {
                (true, _) => "active".to_owned(),
                (false, Some(since)) => format!("revoked {}", output::time(since)),
                (false, None) => "expired".to_owned(),
            };
            let (created, until) = (output::time(key.created), time_or(key.valid_until, "until revoked"));
            [key.email, key.id.to_string(), key.algorithm.to_owned(), state, created, until]
        })
        .collect();
    output::table(["ACCOUNT", "ID", "ALGORITHM", "STATE", "CREATED", "VALID UNTIL"], &rows, "no keys");
    Ok(())
}

fn revoke_key(arguments: AccountKeyRevoke, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    Backend::open(&home.open(argv)?)?.revoke_account_key(&arguments.key)?;
    let message = format!("key {} revoked", arguments.key);
    output::result(arguments.output.json, &json!({ "revoked": arguments.key }), &message);
    Ok(())
}

/// A service account's key file in the vendor's format, without the private key.
fn key_file(key: &AccountKeyInfo, token_endpoint: Option<&str>) -> Value {
    let mut credentials = json!({
        "aud": key.audience,
        "iss": key.email,
        "kid": key.id,
        "sub": key.account,
    });
    if let Some(url) = token_endpoint {
        credentials["tokenEndpoint"] = json!(url);
    }
    let mut file = json!({
        "id": key.id,
        "active": key.active,
        "createdAt": output::time(key.created),
        "keyAlgorithm": key.algorithm,
        "keyOrigin": if key.generated { "GENERATED" } else { "USER_PROVIDED" },
        "keyType": "USER_MANAGED",
        "publicKey": key.public,
        "credentials": credentials,
    });
    if let Some(until) = key.valid_until {
        file["validUntil"] = json!(output::time(until));
    }
    file
}

/// Checks that a file to write does not exist, before a credential is created.
fn ensure_absent(path: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(Failure::new(format!("{} already exists; nothing was made", path.display()), "name another file"))
}

fn token_json(token: &TokenInfo) -> Value {
    json!({
        "id": token.id,
        "account": token.account,
        "name": token.name,
        "created": output::time(token.created),
        "expires": token.expires.map(output::time),
        "lastUsed": token.used.map(output::time),
    })
}

fn time_or(time: Option<u64>, otherwise: &str) -> String {
    time.map_or_else(|| otherwise.to_owned(), output::time)
}
