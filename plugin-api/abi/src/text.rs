//! Texts that cross the border.

/// Borrowed bytes that should be UTF-8. The reader checks them, because the writer can be
/// wrong.
///
/// They belong to the side that passes them, and are valid during the call, or for the
/// life of the future that the call starts. A null pointer with a length of zero is an
/// empty text.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Str {
    /// The first byte.
    pub ptr: *const u8,
    /// The number of bytes.
    pub len: usize,
}

// SAFETY: the bytes are not written to while they are lent.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Send for Str {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Sync for Str {}

impl Str {
    /// An empty text.
    pub const EMPTY: Str = Str {
        ptr: core::ptr::null(),
        len: 0,
    };

    /// Lends a text.
    #[must_use]
    pub const fn new(text: &str) -> Self {
        Self::lend(text.as_bytes())
    }

    /// Lends bytes, for a receiver that does not read them as a text.
    #[must_use]
    pub const fn lend(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The bytes must be readable and unchanged for `'a`, as the table that
    /// passed the text promises.
    #[allow(unsafe_code, reason = "the border is made of pointers")]
    #[must_use]
    pub const unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: not null, and the caller promises the rest.
        unsafe { core::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The text up to its first byte that is not UTF-8.
    ///
    /// # Safety
    ///
    /// That of [`Str::bytes`].
    #[allow(unsafe_code, reason = "the border is made of pointers")]
    #[must_use]
    pub const unsafe fn text<'a>(self) -> &'a str {
        // SAFETY: the caller promises it.
        let bytes = unsafe { self.bytes() };
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => match core::str::from_utf8(bytes.split_at(error.valid_up_to()).0) {
                Ok(text) => text,
                Err(_) => "",
            },
        }
    }
}
