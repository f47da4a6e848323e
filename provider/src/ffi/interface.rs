//! The interfaces that a host chooses from: 3.2 (the default), 3.0 and 2.40, over the same functions.

use std::ffi::c_void;

use cryptoki_sys::{CK_FLAGS, CK_FUNCTION_LIST, CK_INTERFACE, CK_ULONG, CK_UTF8CHAR, CK_VERSION};
use kms_protocol::Rv;

use super::input;
use super::table::{LIST_2_40, LIST_3_0, LIST_3_2};

/// The name of the standard's interfaces, with the final zero of a C string.
const NAME: &[u8] = b"PKCS 11\0";

/// Interfaces that C code reads from any thread and never writes.
struct Interfaces([CK_INTERFACE; 3]);

// SAFETY: the pointers inside lead to immutable statics that are never written.
unsafe impl Sync for Interfaces {}

/// The interfaces in the order of `C_GetInterfaceList`: the first is the default. No flags: a forked child has to
/// initialise again, so the interface is not fork-safe in the specification's sense.
static INTERFACES: Interfaces = Interfaces([
    interface((&raw const LIST_3_2).cast()),
    interface((&raw const LIST_3_0).cast()),
    interface((&raw const LIST_2_40).cast()),
]);

/// The versions of [`INTERFACES`].
const VERSIONS: [(u8, u8); 3] = [(3, 2), (3, 0), (2, 40)];

const fn interface(list: *const c_void) -> CK_INTERFACE {
    CK_INTERFACE { pInterfaceName: NAME.as_ptr().cast_mut(), pFunctionList: list.cast_mut(), flags: 0 }
}

/// `C_GetFunctionList`.
///
/// # Safety
/// A `list` that is not null must be writable.
pub(crate) unsafe fn function_list(list: *mut *mut CK_FUNCTION_LIST) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe { super::output::value(list, || Ok((&raw const LIST_2_40).cast_mut())) }
}

/// `C_GetInterfaceList`.
///
/// # Safety
/// Pointers that are not null must be writable: `list` for `*count` interfaces.
pub(crate) unsafe fn list(list: *mut CK_INTERFACE, count: *mut CK_ULONG) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let capacity = unsafe { input::value(count) }.ok_or(Rv::ARGUMENTS_BAD)?;
    let number = INTERFACES.0.len();
    let fits = usize::try_from(capacity).map_or(true, |capacity| capacity >= number);
    if fits && !list.is_null() {
        for (index, interface) in INTERFACES.0.iter().enumerate() {
            // SAFETY: the list has space for all of them.
            let pointer = unsafe { list.add(index) };
            // SAFETY: likewise.
            unsafe { pointer.write_unaligned(*interface) };
        }
    }
    // SAFETY: it was read above.
    unsafe { count.write_unaligned(super::output::ulong(number as u64)) };
    if fits || list.is_null() { Ok(()) } else { Err(Rv::BUFFER_TOO_SMALL) }
}

/// `C_GetInterface`. A null name or version selects the default. A flag that no interface has, or another name or
/// version, gets `CKR_ARGUMENTS_BAD`, after which hosts try again with fewer requirements.
///
/// # Safety
/// `name` must be null or a string, `version` null or readable, `selected` null or writable.
pub(crate) unsafe fn choose(
    name: *const CK_UTF8CHAR,
    version: *const CK_VERSION,
    selected: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let name_matches = name.is_null() || unsafe { is_our_name(name) };
    // SAFETY: likewise.
    let version = unsafe { input::value(version) }.map(|version| (version.major, version.minor));
    let found = VERSIONS.iter().position(|offered| version.is_none_or(|wanted| wanted == *offered));
    let index = found.filter(|_| name_matches && flags == 0).ok_or(Rv::ARGUMENTS_BAD)?;
    let interface = &raw const INTERFACES.0[index];
    // SAFETY: the caller's promise is passed on.
    unsafe { super::output::value(selected, || Ok(interface.cast_mut())) }
}

/// # Safety
/// `name` must be a string with a final zero.
unsafe fn is_our_name(name: *const CK_UTF8CHAR) -> bool {
    // Stops at the first difference, so it never reads beyond the final zero of either string.
    NAME.iter().enumerate().all(|(index, byte)| {
        // SAFETY: all bytes before it were equal to ours and not zero.
        let pointer = unsafe { name.add(index) };
        // SAFETY: likewise.
        unsafe { pointer.read() == *byte }
    })
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[track_caller]
    fn check(name: *const u8, version: Option<(u8, u8)>, flags: CK_FLAGS, expected: Result<(u8, u8), Rv>) {
        let version = version.map(|(major, minor)| CK_VERSION { major, minor });
        let pointer = version.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut selected = ptr::null_mut();
        // SAFETY: each pointer is null or valid.
        let result = unsafe { choose(name, pointer, &raw mut selected, flags) };
        let version = result.map(|()| {
            // SAFETY: an interface was selected.
            let list = unsafe { (*selected).pFunctionList };
            // SAFETY: every list begins with its version.
            unsafe { list.cast::<CK_VERSION>().read() }
        });
        assert_eq!(version.map(|version| (version.major, version.minor)), expected);
    }

    #[test]
    fn hosts_get_the_requested_interface_and_the_newest_by_default() {
        check(ptr::null(), None, 0, Ok((3, 2)));
        check(NAME.as_ptr(), None, 0, Ok((3, 2)));
        check(NAME.as_ptr(), Some((3, 0)), 0, Ok((3, 0)));
        check(NAME.as_ptr(), Some((2, 40)), 0, Ok((2, 40)));
        check(NAME.as_ptr(), Some((3, 1)), 0, Err(Rv::ARGUMENTS_BAD));
        check(c"PKCS 1".as_ptr().cast(), None, 0, Err(Rv::ARGUMENTS_BAD));
        check(c"PKCS 111".as_ptr().cast(), None, 0, Err(Rv::ARGUMENTS_BAD));
        check(ptr::null(), None, cryptoki_sys::CKF_INTERFACE_FORK_SAFE, Err(Rv::ARGUMENTS_BAD));
        // SAFETY: null.
        let nowhere = unsafe { choose(ptr::null(), ptr::null(), ptr::null_mut(), 0) };
        assert_eq!(nowhere, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn the_list_follows_the_two_call_rule() {
        let mut count = 0;
        // SAFETY: a null list is not written to.
        assert_eq!(unsafe { list(ptr::null_mut(), &raw mut count) }, Ok(()));
        assert_eq!(count, 3);
        let mut interfaces = [interface(ptr::null()); 3];
        count = 2;
        // SAFETY: the array holds three, and two are offered.
        assert_eq!(unsafe { list(interfaces.as_mut_ptr(), &raw mut count) }, Err(Rv::BUFFER_TOO_SMALL));
        assert!(interfaces[0].pFunctionList.is_null());
        // SAFETY: the array holds three.
        assert_eq!(unsafe { list(interfaces.as_mut_ptr(), &raw mut count) }, Ok(()));
        assert!(interfaces.iter().all(|interface| !interface.pFunctionList.is_null()));
    }
}
