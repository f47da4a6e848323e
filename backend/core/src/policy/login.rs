//! Logins: the ticket that proves one, and the delay after wrong PINs (`docs/decisions/0004`).

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use kms_protocol::{RingId, Rv, Secret, Ticket};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::object::{LoginId, RingRole};

/// The version of the ticket format. A new format has a new number, and old tickets become invalid.
const FORMAT: u8 = 1;

/// The label of a ticket's MAC.
const LABEL: &[u8] = b"kms ticket";

/// The length of the MAC at a ticket's end, in bytes.
const MAC_BYTES: usize = 32;

/// The maximum length of a ticket that is parsed, in bytes: a name and a hundred bytes more.
const TICKET_BYTES_MAX: usize = 1024;

/// The number of wrong PINs without a delay: people mistype.
const FREE_FAILURES: u32 = 3;

/// The first delay.
const DELAY_MIN: Duration = Duration::from_millis(250);

/// The maximum delay: an attempt still ends before the provider's deadline.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// What a ticket proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// The number of the login: random at the login, and kept when the ticket is renewed.
    pub login: LoginId,
    /// The ring it is valid for.
    pub ring: RingId,
    /// The principal's name.
    pub name: String,
    /// The principal's role when the ticket was issued.
    pub ring_role: RingRole,
    /// The generation of the principal's PIN that was proven: a newer PIN invalidates the ticket.
    pub generation: u64,
    /// The user id of the peer on the socket, which alone may use the ticket.
    pub uid: Option<u32>,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// The key under which the backends issue and check tickets.
pub struct TicketKey(Zeroizing<[u8; 32]>);

impl TicketKey {
    /// Encodes claims and appends their MAC. The label keeps what is signed for one purpose from serving another.
    pub(super) fn sign(&self, label: &[u8], claims: &impl Serialize) -> Secret {
        let mut bytes = postcard::to_allocvec(claims).expect("numbers and a string can be encoded");
        let mac = self.mac_over(label, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        Secret::from(bytes)
    }

    /// Returns claims of at most `most` bytes, if they were signed with this label and nothing follows them.
    pub(super) fn verify<'a, T: Deserialize<'a>>(
        &self,
        label: &[u8],
        signed: &'a [u8],
        most: usize,
    ) -> Option<T> {
        if signed.len() > most {
            return None;
        }
        let (bytes, mac) = signed.split_at_checked(signed.len().checked_sub(MAC_BYTES)?)?;
        // Compared in constant time, and before any byte is parsed.
        self.mac_over(label, bytes).verify_slice(mac).ok()?;
        let (claims, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(claims)
    }

    fn mac_over(&self, label: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.chain_update(label).chain_update(bytes)
    }
}

impl From<Zeroizing<[u8; 32]>> for TicketKey {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

/// A ticket's claims in their encoded form.
#[derive(Deserialize, Serialize)]
struct EncodedClaims<'a> {
    format: u8,
    ring: [u8; 16],
    name: &'a str,
    ring_role: u8,
    generation: u64,
    uid: Option<u32>,
    issued: u64,
    expires: u64,
    /// The number of the login. Tickets of earlier releases have a random number here that was not kept at a renewal.
    login: [u8; 16],
}

/// Issues a ticket. The number of the login is random, so that no two logins have equal tickets.
pub fn issue(key: &TicketKey, claims: &Claims) -> Ticket {
    let encoded = EncodedClaims {
        format: FORMAT,
        ring: claims.ring.0,
        name: &claims.name,
        ring_role: role_number(claims.ring_role),
        generation: claims.generation,
        uid: claims.uid,
        issued: claims.issued,
        expires: claims.expires,
        login: claims.login.0,
    };
    Ticket(key.sign(LABEL, &encoded))
}

/// Checks a ticket that the user `uid` sent at the time `now`, and returns its claims. The caller must check that the
/// principal still has that PIN and that role.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN` for a ticket that the backend did not issue, that has expired, or that is another user's.
pub fn check(key: &TicketKey, ticket: &Ticket, now: u64, uid: Option<u32>) -> Result<Claims, Rv> {
    decode(key, ticket)
        .filter(|claims| now < claims.expires && claims.uid == uid)
        .ok_or(Rv::USER_NOT_LOGGED_IN)
}

fn decode(key: &TicketKey, ticket: &Ticket) -> Option<Claims> {
    let encoded: EncodedClaims<'_> = key.verify(LABEL, &ticket.0, TICKET_BYTES_MAX)?;
    if encoded.format != FORMAT {
        return None;
    }
    Some(Claims {
        login: LoginId(encoded.login),
        ring: RingId(encoded.ring),
        name: encoded.name.to_owned(),
        ring_role: role_from_number(encoded.ring_role)?,
        generation: encoded.generation,
        uid: encoded.uid,
        issued: encoded.issued,
        expires: encoded.expires,
    })
}

fn role_number(ring_role: RingRole) -> u8 {
    match ring_role {
        RingRole::Officer => 0,
        RingRole::Admin => 1,
        RingRole::Editor => 2,
        RingRole::User => 3,
        RingRole::Reader => 4,
    }
}

fn role_from_number(number: u8) -> Option<RingRole> {
    [RingRole::Officer, RingRole::Admin, RingRole::Editor, RingRole::User, RingRole::Reader]
        .into_iter()
        .find(|ring_role| role_number(*ring_role) == number)
}

/// The delay of a login attempt after this many failures: none for the first few, then twice as long each time, up to a
/// few seconds. There is no permanent lock: anyone who can send guesses could otherwise lock out the principal.
pub fn delay_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(doublings) => {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            DELAY_MIN.saturating_mul(factor).min(DELAY_MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> TicketKey {
        TicketKey::from(Zeroizing::new([7; 32]))
    }

    fn claims() -> Claims {
        Claims {
            login: LoginId([9; 16]),
            ring: RingId([3; 16]),
            name: "user".to_owned(),
            ring_role: RingRole::Admin,
            generation: 2,
            uid: Some(1000),
            issued: 100,
            expires: 200,
        }
    }

    #[test]
    fn a_ticket_is_valid_until_it_expires_and_for_its_user() {
        let ticket = issue(&key(), &claims());
        assert_eq!(check(&key(), &ticket, 199, Some(1000)), Ok(claims()));
        for (now, uid) in [(200, Some(1000)), (150, Some(1001)), (150, None)] {
            assert_eq!(check(&key(), &ticket, now, uid), Err(Rv::USER_NOT_LOGGED_IN));
        }
        let other = TicketKey::from(Zeroizing::new([8; 32]));
        assert_eq!(check(&other, &ticket, 150, Some(1000)), Err(Rv::USER_NOT_LOGGED_IN));
        assert_ne!(issue(&key(), &Claims { login: LoginId([1; 16]), ..claims() }), ticket);
    }

    #[test]
    fn every_role_has_a_number() {
        for ring_role in
            [RingRole::Officer, RingRole::Admin, RingRole::Editor, RingRole::User, RingRole::Reader]
        {
            assert_eq!(role_from_number(role_number(ring_role)), Some(ring_role));
        }
        assert_eq!(role_from_number(5), None);
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_a_valid_ticket(bytes: Vec<u8>, at: prop::sample::Index, flip in 1_u8..=255, cut: prop::sample::Index) {
            prop_assert!(check(&key(), &Ticket(Secret::from(bytes)), 150, Some(1000)).is_err());
            let good = issue(&key(), &claims()).0.to_vec();
            let mut wrong = good.clone();
            wrong[at.index(good.len())] ^= flip;
            prop_assert!(check(&key(), &Ticket(Secret::from(wrong)), 150, Some(1000)).is_err());
            let short = good[..cut.index(good.len())].to_vec();
            prop_assert!(check(&key(), &Ticket(Secret::from(short)), 150, Some(1000)).is_err());
        }
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let delays: Vec<_> = (0..9).map(|failures| delay_after(failures).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(delay_after(u32::MAX), DELAY_MAX);
    }
}
