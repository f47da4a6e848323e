//! Calls a module through the C API: function lists, raw pointers, and any misuse that a host program can commit.
//!
//! All unsafe code of this library is here and in [`call!`]. It is sound because the pointers that the tests pass are
//! either valid for what the call may read and write, or wrong in a way that the module must detect without
//! dereferencing them (null, too long, a stale handle). No test passes a dangling pointer.

mod c_structs;
mod keys;
mod message;
mod session;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_FUNCTION_LIST_3_2, CK_INTERFACE, CK_RV,
    CK_ULONG, CK_VERSION, CKF_OS_LOCKING_OK,
};
use kms_protocol::Rv;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub use c_structs::{Field, Mechanism, Template};
pub use message::{Direction, Messages};
pub use session::{OutputSize, Session};

/// Calls a function of a module's 2.40 list and returns its code: `call!(module, C_CloseSession(session))`.
#[macro_export]
macro_rules! call {
    ($module:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $module.list().$name.expect("the list has no null entry");
        // SAFETY: see the module documentation of `raw`: every pointer is valid, or one that the module must not touch.
        $crate::raw::code(unsafe { function($($argument),*) })
    }};
}

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    list: CK_FUNCTION_LIST,
    // Keeps the library loaded while the functions of `list` may be called.
    library: Library,
}

/// An interface of a module.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its list's version.
    pub version: (u8, u8),
    /// Its flags.
    pub flags: CK_ULONG,
    /// The entries of its list, as addresses; null ones are `None`.
    pub entries: Vec<Option<usize>>,
}

impl Module {
    /// `dlopen` and `C_GetFunctionList`.
    ///
    /// # Panics
    /// When the file is not a module.
    pub fn load(path: &Path) -> Self {
        // SAFETY: loading runs the module's initialisers; it has none, and SoftHSM's are harmless.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let list = function_list(&library);
        Self { list, library }
    }

    /// Loads and initialises the module of a stack.
    ///
    /// # Panics
    /// When that fails.
    pub fn of(stack: &crate::Stack) -> Self {
        let module = Self::load(&stack.module());
        module.initialize(&stack.config()).expect("it initialises");
        module
    }

    /// The 2.40 list.
    pub fn list(&self) -> &CK_FUNCTION_LIST {
        &self.list
    }

    /// `C_Initialize(NULL)`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn initialize_bare(&self) -> Result<(), Rv> {
        call!(self, C_Initialize(ptr::null_mut()))
    }

    /// `C_Initialize` with OS locking and a configuration as `pReserved`.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// Never: a path has no null.
    pub fn initialize(&self, config: &Path) -> Result<(), Rv> {
        let reserved = [b"config=", config.as_os_str().as_bytes()].concat();
        let reserved = CString::new(reserved).expect("a path has no null");
        let mut arguments = arguments(CKF_OS_LOCKING_OK);
        arguments.pReserved = reserved.as_ptr().cast_mut().cast();
        self.initialize_with(&mut arguments)
    }

    /// `C_Initialize` with these arguments.
    ///
    /// # Errors
    /// The module's return code.
    pub fn initialize_with(&self, arguments: &mut CK_C_INITIALIZE_ARGS) -> Result<(), Rv> {
        call!(self, C_Initialize(ptr::from_mut(arguments).cast()))
    }

    /// `C_Finalize(NULL)`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn finalize(&self) -> Result<(), Rv> {
        call!(self, C_Finalize(ptr::null_mut()))
    }

    /// `C_GetInterface`.
    ///
    /// # Errors
    /// The module's return code; `FUNCTION_NOT_SUPPORTED` when it has no such function.
    ///
    /// # Panics
    /// Never: names have no null.
    pub fn interface(&self, name: Option<&str>, version: Option<(u8, u8)>) -> Result<Interface, Rv> {
        type GetInterface =
            unsafe extern "C" fn(*mut u8, *mut CK_VERSION, *mut *mut CK_INTERFACE, CK_ULONG) -> CK_RV;
        // SAFETY: the specification gives the function this type.
        let found = unsafe { self.library.get::<GetInterface>(b"C_GetInterface\0") };
        let function = *found.map_err(|_| Rv::FUNCTION_NOT_SUPPORTED)?;
        let name = name.map(|name| CString::new(name).expect("a name has no null"));
        let mut version = version.map(|(major, minor)| CK_VERSION { major, minor });
        let name = name.as_ref().map_or(ptr::null_mut(), |name| name.as_ptr().cast_mut().cast());
        let version = version.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let mut interface = ptr::null_mut();
        // SAFETY: each pointer is null or points at a value that outlives the call.
        code(unsafe { function(name, version, &raw mut interface, 0) })?;
        // SAFETY: the call succeeded, so it points at the module's own interface, which lives as long as the module.
        Ok(read_interface(unsafe { &*interface }))
    }

    /// `C_GetInterfaceList`.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// When the module reports more interfaces than fit in memory.
    pub fn interfaces(&self) -> Result<Vec<Interface>, Rv> {
        type GetInterfaceList = unsafe extern "C" fn(*mut CK_INTERFACE, *mut CK_ULONG) -> CK_RV;
        // SAFETY: the specification gives the function this type.
        let found = unsafe { self.library.get::<GetInterfaceList>(b"C_GetInterfaceList\0") };
        let function = *found.map_err(|_| Rv::FUNCTION_NOT_SUPPORTED)?;
        let mut count = 0;
        // SAFETY: with a null list the function only writes the count to `count`.
        code(unsafe { function(ptr::null_mut(), &raw mut count) })?;
        let mut list = vec![CK_INTERFACE::default(); usize::try_from(count).expect("a count fits")];
        // SAFETY: `list` has space for `count` interfaces.
        code(unsafe { function(list.as_mut_ptr(), &raw mut count) })?;
        Ok(list.iter().map(read_interface).collect())
    }

    /// The address of an exported function, if there is one.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        let name = CString::new(name).ok()?;
        // SAFETY: the symbol's address is taken, nothing is called through it.
        let found = unsafe { self.library.get::<unsafe extern "C" fn()>(name.to_bytes_with_nul()) };
        found.ok().map(|function| *function as usize)
    }

    /// `dlclose`.
    ///
    /// # Panics
    /// When the library cannot be closed.
    pub fn unload(self) {
        self.library.close().expect("the module unloads");
    }
}

/// Arguments for `C_Initialize` with these flags and nothing else.
pub fn arguments(flags: CK_ULONG) -> CK_C_INITIALIZE_ARGS {
    CK_C_INITIALIZE_ARGS { flags, ..CK_C_INITIALIZE_ARGS::default() }
}

/// A `CK_RV` as a result.
///
/// # Errors
/// The code, unless it is `CKR_OK`.
pub fn code(rv: CK_RV) -> Result<(), Rv> {
    match u32::try_from(rv) {
        Ok(0) => Ok(()),
        Ok(rv) => Err(Rv(rv)),
        Err(_) => Err(Rv(u32::MAX)),
    }
}

fn function_list(library: &Library) -> CK_FUNCTION_LIST {
    type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
    // SAFETY: the specification gives the function this type.
    let function = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") };
    let function = *function.expect("a module exports C_GetFunctionList");
    let mut list = ptr::null_mut();
    // SAFETY: the pointer is written to `list`.
    code(unsafe { function(&raw mut list) }).expect("C_GetFunctionList succeeds");
    assert!(!list.is_null(), "C_GetFunctionList returns a list");
    // SAFETY: the module's own list, which lives as long as the module; we take a copy.
    unsafe { list.read() }
}

fn read_interface(interface: &CK_INTERFACE) -> Interface {
    // SAFETY: the specification requires a null-terminated string.
    let name = unsafe { CStr::from_ptr(interface.pInterfaceName.cast()) };
    let name = name.to_string_lossy().into_owned();
    // SAFETY: every list starts with its version.
    let CK_VERSION { major, minor } = unsafe { interface.pFunctionList.cast::<CK_VERSION>().read() };
    let size = match (major, minor) {
        (3, 2) => size_of::<CK_FUNCTION_LIST_3_2>(),
        (3, _) => size_of::<CK_FUNCTION_LIST_3_0>(),
        _ => size_of::<CK_FUNCTION_LIST>(),
    };
    // The version with its padding fills one machine word; only function pointers follow it.
    let first = interface.pFunctionList.cast::<usize>();
    let entries = (1..size / size_of::<usize>()).map(|index| {
        // SAFETY: the index is within the list, whose size follows from its version.
        let address = unsafe { first.wrapping_add(index).read() };
        (address != 0).then_some(address)
    });
    Interface { name, version: (major, minor), flags: interface.flags, entries: entries.collect() }
}
