//! Logins: the ticket that proves one, and how long a guess must wait (`docs/decisions/0004`).

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use kms_protocol::{RingId, Rv, Secret, Ticket};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::object::RingRole;

/// The form of a ticket. Another form gets another number, and old tickets end.
const FORM: u8 = 1;

/// The length of the authentication at a ticket's end, in bytes.
const TAG_BYTES: usize = 32;

/// The longest ticket that is looked at, in bytes: a name and a hundred bytes besides.
const TICKET_BYTES_MAX: usize = 1024;

/// Wrong PINs that cost nothing: people mistype.
const FREE_FAILURES: u32 = 3;

/// The first delay.
const DELAY_MIN: Duration = Duration::from_millis(250);

/// The longest delay: an attempt still ends before the provider's deadline.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// What a ticket proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// The ring it holds for.
    pub ring: RingId,
    /// The principal's name.
    pub name: String,
    /// What the principal could do when it was issued.
    pub ring_role: RingRole,
    /// Which of the principal's PINs was proven: a newer one ends the ticket.
    pub generation: u64,
    /// The user at the other end of the socket, who alone may show it.
    pub uid: Option<u32>,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// From when it holds no longer, in seconds since 1970.
    pub expires: u64,
}

/// The key under which the backends issue and check tickets.
pub struct TicketKey(Zeroizing<[u8; 32]>);

impl From<Zeroizing<[u8; 32]>> for TicketKey {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

/// A ticket's claims as they are encoded.
#[derive(Deserialize, Serialize)]
struct Written<'a> {
    form: u8,
    ring: [u8; 16],
    name: &'a str,
    ring_role: u8,
    generation: u64,
    uid: Option<u32>,
    issued: u64,
    expires: u64,
    nonce: [u8; 16],
}

/// Issues a ticket. The nonce is random, so that no two tickets are alike.
pub fn issue(key: &TicketKey, claims: &Claims, nonce: [u8; 16]) -> Ticket {
    let written = Written {
        form: FORM,
        ring: claims.ring.0,
        name: &claims.name,
        ring_role: number_of(claims.ring_role),
        generation: claims.generation,
        uid: claims.uid,
        issued: claims.issued,
        expires: claims.expires,
        nonce,
    };
    let mut bytes = postcard::to_allocvec(&written).expect("numbers and a string can be encoded");
    let tag = authenticate(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    Ticket(Secret::from(bytes))
}

/// What a ticket proves to who got it from the user `uid` at the time `now`. Whether the principal still has that PIN
/// and that ring_role is for the caller to compare.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN` for a ticket that is not ours, has ended, or is another user's.
pub fn check(key: &TicketKey, ticket: &Ticket, now: u64, uid: Option<u32>) -> Result<Claims, Rv> {
    read(key, ticket).filter(|claims| now < claims.expires && claims.uid == uid).ok_or(Rv::USER_NOT_LOGGED_IN)
}

fn read(key: &TicketKey, ticket: &Ticket) -> Option<Claims> {
    if ticket.0.len() > TICKET_BYTES_MAX {
        return None;
    }
    let (bytes, tag) = ticket.0.split_at_checked(ticket.0.len().checked_sub(TAG_BYTES)?)?;
    // Compared in constant time, and before a byte of it is understood.
    authenticate(key, bytes).verify_slice(tag).ok()?;
    let (written, rest) = postcard::take_from_bytes::<Written<'_>>(bytes).ok()?;
    if written.form != FORM || !rest.is_empty() {
        return None;
    }
    Some(Claims {
        ring: RingId(written.ring),
        name: written.name.to_owned(),
        ring_role: ring_role_of(written.ring_role)?,
        generation: written.generation,
        uid: written.uid,
        issued: written.issued,
        expires: written.expires,
    })
}

fn authenticate(key: &TicketKey, bytes: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key.0.as_slice()).expect("HMAC takes a key of any length");
    mac.chain_update(b"kms ticket").chain_update(bytes)
}

fn number_of(ring_role: RingRole) -> u8 {
    match ring_role {
        RingRole::Officer => 0,
        RingRole::Admin => 1,
        RingRole::Editor => 2,
        RingRole::User => 3,
        RingRole::Reader => 4,
    }
}

fn ring_role_of(number: u8) -> Option<RingRole> {
    [RingRole::Officer, RingRole::Admin, RingRole::Editor, RingRole::User, RingRole::Reader]
        .into_iter()
        .find(|ring_role| number_of(*ring_role) == number)
}

/// How long an attempt waits after so many failures before it: not at all for the first few, then twice as long each
/// time, up to a few seconds. Never for good: whoever can guess could otherwise lock the owner out.
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
    fn a_ticket_holds_until_it_ends_and_for_its_user() {
        let ticket = issue(&key(), &claims(), [9; 16]);
        assert_eq!(check(&key(), &ticket, 199, Some(1000)), Ok(claims()));
        for (now, uid) in [(200, Some(1000)), (150, Some(1001)), (150, None)] {
            assert_eq!(check(&key(), &ticket, now, uid), Err(Rv::USER_NOT_LOGGED_IN));
        }
        let other = TicketKey::from(Zeroizing::new([8; 32]));
        assert_eq!(check(&other, &ticket, 150, Some(1000)), Err(Rv::USER_NOT_LOGGED_IN));
        assert_ne!(issue(&key(), &claims(), [1; 16]), ticket);
    }

    #[test]
    fn every_standing_comes_back() {
        for ring_role in
            [RingRole::Officer, RingRole::Admin, RingRole::Editor, RingRole::User, RingRole::Reader]
        {
            assert_eq!(ring_role_of(number_of(ring_role)), Some(ring_role));
        }
        assert_eq!(ring_role_of(5), None);
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_a_ticket(bytes: Vec<u8>, at: prop::sample::Index, flip in 1_u8..=255, cut: prop::sample::Index) {
            prop_assert!(check(&key(), &Ticket(Secret::from(bytes)), 150, Some(1000)).is_err());
            let good = issue(&key(), &claims(), [9; 16]).0.to_vec();
            let mut wrong = good.clone();
            wrong[at.index(good.len())] ^= flip;
            prop_assert!(check(&key(), &Ticket(Secret::from(wrong)), 150, Some(1000)).is_err());
            let short = good[..cut.index(good.len())].to_vec();
            prop_assert!(check(&key(), &Ticket(Secret::from(short)), 150, Some(1000)).is_err());
        }
    }

    #[test]
    fn guesses_wait_longer_and_longer_but_not_for_ever() {
        let waits: Vec<_> = (0..9).map(|failures| delay_after(failures).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(delay_after(u32::MAX), DELAY_MAX);
    }
}
