//! Texts that players read: chat lines, titles, reasons, with colours, formats,
//! clicks and hovers. One text serves every version of the game.

mod json;
mod legacy;
mod mini;

use std::borrow::Cow;
use std::fmt;

use json::Json;

/// How deep texts are nested in one another. Real ones stay below ten.
pub(crate) const DEPTH_MAX: u8 = 32;

/// A text that a player reads.
///
/// It is built from parts, from a text with `§` codes ([`Text::from_legacy`], and
/// every `&str`), or from tags ([`Text::from_mini`]). The proxy writes it in the
/// form that the player's version of the game reads: a colour that the version
/// lacks becomes the nearest that it has, and what it cannot show at all is left
/// out.
///
/// ```
/// use infrarust_plugin_api::{Color, Text};
///
/// let text = Text::new("Welcome, ")
///     .color(Color::Gold)
///     .append(Text::new("Steve").bold())
///     .append(Text::new(" [rules]").run_command("/rules").hover("Click to read them"));
/// assert_eq!(text.plain(), "Welcome, Steve [rules]");
///
/// let same = Text::from_mini(
///     "<gold>Welcome, <b>Steve</b><click:run_command:/rules><hover:show_text:'Click to read them'> [rules]",
/// );
/// assert_eq!(same.plain(), text.plain());
/// ```
///
/// A part takes over the look of the text that it is appended to, unless it has
/// its own.
///
/// # Limits
///
/// Texts are nested at most 32 deep: a part that would be deeper is appended
/// without its look. The proxy refuses a text with more than
/// [`Text::JSON_BYTES_MAX`] bytes of JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    content: Content,
    color: Option<Color>,
    formats: [Option<bool>; 5],
    insertion: Option<String>,
    click: Option<Click>,
    hover: Option<Box<Text>>,
    children: Vec<Text>,
    /// Keys of the JSON form for which this type has no field.
    other: Vec<(String, Json)>,
    /// How many texts are nested in one another below this one.
    depth: u8,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Plain(String),
    Translate {
        key: String,
        args: Vec<Text>,
    },
    /// A content among the other keys, such as a key binding.
    Other,
}

impl Default for Content {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

/// A colour: one of the sixteen with a name, or any other.
///
/// Versions before 1.16 know only these sixteen: any other colour becomes the nearest
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Color {
    Black,
    DarkBlue,
    DarkGreen,
    DarkAqua,
    DarkRed,
    DarkPurple,
    Gold,
    Gray,
    DarkGray,
    Blue,
    Green,
    Aqua,
    Red,
    LightPurple,
    Yellow,
    White,
    /// Red, green and blue.
    Rgb(u8, u8, u8),
}

/// The colours by name, in the order of their codes `§0` to `§f`.
const COLORS: [(&str, Color); 16] = [
    ("black", Color::Black),
    ("dark_blue", Color::DarkBlue),
    ("dark_green", Color::DarkGreen),
    ("dark_aqua", Color::DarkAqua),
    ("dark_red", Color::DarkRed),
    ("dark_purple", Color::DarkPurple),
    ("gold", Color::Gold),
    ("gray", Color::Gray),
    ("dark_gray", Color::DarkGray),
    ("blue", Color::Blue),
    ("green", Color::Green),
    ("aqua", Color::Aqua),
    ("red", Color::Red),
    ("light_purple", Color::LightPurple),
    ("yellow", Color::Yellow),
    ("white", Color::White),
];

impl Color {
    /// The colour with this name, such as `dark_red`, or `#rrggbb`.
    ///
    /// ```
    /// use infrarust_plugin_api::Color;
    ///
    /// assert_eq!(Color::from_name("dark_red"), Some(Color::DarkRed));
    /// assert_eq!(Color::from_name("#ff8000"), Some(Color::Rgb(0xFF, 0x80, 0)));
    /// assert_eq!(Color::from_name("orange"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(hex) = name.strip_prefix('#') {
            if hex.len() != 6 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            let [_, red, green, blue] = u32::from_str_radix(hex, 16).ok()?.to_be_bytes();
            return Some(Self::Rgb(red, green, blue));
        }
        let found = COLORS.iter().find(|(known, _)| *known == name);
        found.map(|(_, color)| *color)
    }

    /// Red, green and blue, as the game shows it.
    fn rgb(self) -> [u8; 3] {
        if let Self::Rgb(red, green, blue) = self {
            return [red, green, blue];
        }
        let index = COLORS.iter().position(|(_, color)| *color == self);
        let index = index.unwrap_or_default();
        // The bits of a code: bright, red, green, blue.
        let bright = if index & 8 == 0 { 0 } else { 0x55 };
        let channel = |bit| bright + if index & bit == 0 { 0 } else { 0xAA };
        let [red, green, blue] = [channel(4), channel(2), channel(1)];
        match self {
            Self::Gold => [0xFF, green, blue],
            _ => [red, green, blue],
        }
    }
}

/// As [`Color::from_name`] reads it.
impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Rgb(red, green, blue) = self {
            return write!(f, "#{red:02x}{green:02x}{blue:02x}");
        }
        let found = COLORS.iter().find(|(_, color)| color == self);
        f.write_str(found.map_or("white", |(name, _)| name))
    }
}

/// A look of letters beside their colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Format {
    Bold,
    Italic,
    Underlined,
    Strikethrough,
    /// Letters that change all the time.
    Obfuscated,
}

impl Format {
    const ALL: [Self; 5] = [
        Self::Bold,
        Self::Italic,
        Self::Underlined,
        Self::Strikethrough,
        Self::Obfuscated,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Bold => "bold",
            Self::Italic => "italic",
            Self::Underlined => "underlined",
            Self::Strikethrough => "strikethrough",
            Self::Obfuscated => "obfuscated",
        }
    }
}

/// What a click on a text does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Click {
    OpenUrl(String),
    RunCommand(String),
    SuggestCommand(String),
    CopyToClipboard(String),
    ChangePage(u32),
}

impl Text {
    /// The most bytes of a text's JSON form that the proxy takes: what clients of
    /// every version read.
    pub const JSON_BYTES_MAX: usize = 32_767;

    /// A text of exactly these characters, without a look. `§` codes in them are not read;
    /// see [`Text::from_legacy`].
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            content: Content::Plain(text.into()),
            ..Self::default()
        }
    }

    /// A text of the client's own language, such as `multiplayer.player.joined`, with the
    /// values for its placeholders. A client that does not know the key shows the key.
    ///
    /// ```
    /// use infrarust_plugin_api::{Color, Text};
    ///
    /// let joined = Text::translate("multiplayer.player.joined", ["Steve"]).color(Color::Yellow);
    /// assert_eq!(
    ///     joined.to_json(),
    ///     r#"{"translate":"multiplayer.player.joined","with":[{"text":"Steve"}],"color":"yellow"}"#
    /// );
    /// ```
    #[must_use]
    pub fn translate<T: Into<Text>>(
        key: impl Into<String>,
        args: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut text = Self::default();
        let args = args.into_iter();
        let args = args.map(|arg| text.nested(arg.into())).collect();
        let key = key.into();
        text.content = Content::Translate { key, args };
        text
    }

    /// A text from one with `§` codes.
    ///
    /// `§0` to `§f` set a colour and end all formats, `§k` to `§o` set a format,
    /// `§r` ends both; `§x` with six more codes is a colour of any kind, such as
    /// `§x§f§f§8§0§0§0`. A `§` with anything else stays as it is.
    ///
    /// ```
    /// use infrarust_plugin_api::{Color, Text};
    ///
    /// assert_eq!(Text::from_legacy("§6§lHi"), Text::new("Hi").color(Color::Gold).bold());
    /// assert_eq!(Text::from_legacy("5§ off"), Text::new("5§ off"));
    /// ```
    #[must_use]
    pub fn from_legacy(text: &str) -> Self {
        legacy::parse(text)
    }

    /// A text from one with tags, a part of the language MiniMessage.
    ///
    /// | tag | what it does |
    /// |---|---|
    /// | `<gold>`, `<#ff8000>`, `<color:gold>`, `<c:#ff8000>` | the colour; `grey` and `dark_grey` and `colour` are read too |
    /// | `<bold>` `<b>`, `<italic>` `<i>` `<em>`, `<underlined>` `<u>`, `<strikethrough>` `<st>`, `<obfuscated>` `<obf>` | a format |
    /// | `<!bold>`, `<!b>` and so on | not this format |
    /// | `<reset>` | ends all tags |
    /// | `<newline>`, `<br>` | a new line |
    /// | `<click:ACTION:VALUE>` | `open_url`, `run_command`, `suggest_command`, `copy_to_clipboard` or `change_page` |
    /// | `<hover:show_text:'TEXT'>` | a text, itself with tags, that is shown beside the pointer |
    /// | `<insert:TEXT>`, `<insertion:TEXT>` | what a click with shift puts into the chat line |
    /// | `<lang:KEY:'ARG'>`, `<tr:…>`, `<translate:…>` | a text of the client's language, its arguments with tags |
    /// | `<gradient:COLOUR:COLOUR>` | colours from one to the next, letter by letter; two or more, and at most 1000 letters |
    ///
    /// `</gold>` ends what `<gold>` began, and every tag in it; what is not ended
    /// goes on to the end. Values with `:` or `>` stand in `'` or `"`. `\<` is a
    /// `<` that begins no tag, `\\` a `\`; see [`Text::escape_mini`]. What is not
    /// one of these tags stays as it is written: no input is an error.
    ///
    /// ```
    /// use infrarust_plugin_api::{Color, Text};
    ///
    /// let text = Text::from_mini("<gold>Hi <b>you</b></gold>, <smile>");
    /// assert_eq!(text.plain(), "Hi you, <smile>");
    /// assert_eq!(
    ///     Text::from_mini("<click:open_url:'https://example.org'><u>our site"),
    ///     Text::new("our site").underlined().open_url("https://example.org"),
    /// );
    /// ```
    #[must_use]
    pub fn from_mini(text: &str) -> Self {
        mini::parse(text)
    }

    /// Escapes `text`, so that [`Text::from_mini`] reads no tag in it. Use it for all that
    /// comes from players.
    ///
    /// ```
    /// use infrarust_plugin_api::Text;
    ///
    /// let name = "<red>x";
    /// let text = Text::from_mini(&format!("<gold>{}", Text::escape_mini(name)));
    /// assert_eq!(text.plain(), name);
    /// ```
    #[must_use]
    pub fn escape_mini(text: &str) -> String {
        mini::escape(text)
    }

    /// Sets the colour.
    #[must_use]
    pub fn color(mut self, color: Color) -> Self {
        self.color = Some(color);
        self.other.retain(|(key, _)| key != "color");
        self
    }

    /// Sets a format, or says that this text does not have it although the text
    /// around it has.
    #[must_use]
    pub fn format(mut self, format: Format, is_set: bool) -> Self {
        self.formats[format as usize] = Some(is_set);
        self
    }

    /// Bold letters.
    #[must_use]
    pub fn bold(self) -> Self {
        self.format(Format::Bold, true)
    }

    /// Italic letters.
    #[must_use]
    pub fn italic(self) -> Self {
        self.format(Format::Italic, true)
    }

    /// Underlined letters.
    #[must_use]
    pub fn underlined(self) -> Self {
        self.format(Format::Underlined, true)
    }

    /// Letters with a line through them.
    #[must_use]
    pub fn strikethrough(self) -> Self {
        self.format(Format::Strikethrough, true)
    }

    /// Letters that change all the time.
    #[must_use]
    pub fn obfuscated(self) -> Self {
        self.format(Format::Obfuscated, true)
    }

    /// A click opens this address, after a question. It begins with `http://` or
    /// `https://`; the proxy adds `https://` where neither is written, and leaves out a
    /// click that clients cannot open.
    #[must_use]
    pub fn open_url(self, url: impl Into<String>) -> Self {
        self.click(Click::OpenUrl(url.into()))
    }

    /// A click sends this command, written with its `/` and without `§`.
    #[must_use]
    pub fn run_command(self, command: impl Into<String>) -> Self {
        self.click(Click::RunCommand(command.into()))
    }

    /// A click puts this into the chat line.
    #[must_use]
    pub fn suggest_command(self, command: impl Into<String>) -> Self {
        self.click(Click::SuggestCommand(command.into()))
    }

    /// A click copies this; in versions before 1.15 it puts it into the chat line.
    #[must_use]
    pub fn copy_to_clipboard(self, text: impl Into<String>) -> Self {
        self.click(Click::CopyToClipboard(text.into()))
    }

    /// A click goes to this page of the book that the text stands in, from 1.
    #[must_use]
    pub fn change_page(self, page: u32) -> Self {
        self.click(Click::ChangePage(page.max(1)))
    }

    fn click(mut self, click: Click) -> Self {
        self.click = Some(click);
        self.other.retain(|(key, _)| key != "click_event");
        self
    }

    /// Shows this text beside the pointer that is on the text.
    #[must_use]
    pub fn hover(mut self, text: impl Into<Text>) -> Self {
        let text = self.nested(text.into());
        self.hover = Some(Box::new(text));
        self.other.retain(|(key, _)| key != "hover_event");
        self
    }

    /// A click with shift puts this into the chat line (1.8 and later).
    #[must_use]
    pub fn insertion(mut self, text: impl Into<String>) -> Self {
        self.insertion = Some(text.into());
        self
    }

    /// Appends a text, which takes over the look of this one where it has none of
    /// its own.
    #[must_use]
    pub fn append(mut self, text: impl Into<Text>) -> Self {
        self.push(text.into());
        self
    }

    fn push(&mut self, text: Text) {
        let text = self.nested(text);
        self.children.push(text);
    }

    /// `inner` as it can be nested in this text.
    fn nested(&mut self, inner: Text) -> Text {
        let inner = match inner.depth + 1 < DEPTH_MAX {
            true => inner,
            false => Text::new(inner.plain()),
        };
        self.depth = self.depth.max(inner.depth + 1);
        inner
    }

    /// The characters alone. A translation gives its key.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut out = String::new();
        self.write_plain(&mut out);
        out
    }

    fn write_plain(&self, out: &mut String) {
        match &self.content {
            Content::Plain(text) => out.push_str(text),
            Content::Translate { key, .. } => out.push_str(key),
            Content::Other => {}
        }
        for child in &self.children {
            child.write_plain(out);
        }
    }

    /// The JSON form, with the names of keys that the game has since 1.21.5.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        json::write_text(self, &mut out);
        out
    }

    /// Reads the JSON form with the names of keys that the game has since 1.21.5, as the
    /// proxy gives texts to plugins. `None` when `json` is not the JSON form of a text, or
    /// is nested too deep.
    ///
    /// Keys for which this type has no field stay in the text.
    ///
    /// ```
    /// use infrarust_plugin_api::{Color, Text};
    ///
    /// let text = Text::from_json(r#"["",{"text":"a","color":"red"}]"#);
    /// assert_eq!(text, Some(Text::default().append(Text::new("a").color(Color::Red))));
    /// assert_eq!(Text::from_json("{"), None);
    /// ```
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        json::read_text(json)
    }

    /// Whether it shows nothing but what was appended to it.
    fn is_frame(&self) -> bool {
        self.content == Content::default()
    }

    /// A look around one text becomes the look of that text.
    fn collapsed(mut self) -> Self {
        if !self.is_frame() || self.children.len() != 1 || !self.other.is_empty() {
            return self;
        }
        let Some(mut inner) = self.children.pop() else {
            return self;
        };
        inner.color = inner.color.or(self.color);
        for (format, outer) in inner.formats.iter_mut().zip(self.formats) {
            *format = format.or(outer);
        }
        inner.insertion = inner.insertion.or(self.insertion);
        inner.click = inner.click.or(self.click);
        inner.hover = inner.hover.or(self.hover);
        inner.depth = inner.measured_depth();
        inner
    }

    /// The value that `depth` must have.
    fn measured_depth(&self) -> u8 {
        let args = match &self.content {
            Content::Translate { args, .. } => &args[..],
            Content::Plain(_) | Content::Other => &[],
        };
        let nested = args.iter().chain(self.hover.as_deref());
        let depths = nested.chain(&self.children).map(|text| text.depth + 1);
        depths.max().unwrap_or(0)
    }
}

/// With `§` codes; see [`Text::from_legacy`].
impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from_legacy(text)
    }
}

/// With `§` codes; see [`Text::from_legacy`].
impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from_legacy(&text)
    }
}

/// With `§` codes; see [`Text::from_legacy`].
impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from_legacy(text)
    }
}

/// The JSON form, as [`Verdict::refuse`](crate::Verdict::refuse) takes it.
impl From<Text> for Cow<'static, str> {
    fn from(text: Text) -> Self {
        text.to_json().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nesting stops at the bound, and no character is lost there.
    #[test]
    fn nesting_is_bounded() {
        let mut text = Text::new("x");
        for _ in 0..10_000 {
            text = Text::new("").bold().append(text);
        }
        assert!(text.depth < DEPTH_MAX);
        assert_eq!(text.plain(), "x");
        let mut text = Text::new("x");
        for _ in 0..1000 {
            text = Text::new("x").hover(text);
        }
        assert!(text.depth < DEPTH_MAX);
        let mut text = Text::new("x");
        for _ in 0..1000 {
            text = Text::translate("k", [text]);
        }
        assert!(text.depth < DEPTH_MAX);
        assert!(Text::from_json(&text.to_json()).is_some());
    }

    /// Names of colours are read as they are written.
    #[test]
    fn colors_by_name() {
        for (name, color) in COLORS {
            assert_eq!(Color::from_name(name), Some(color));
            assert_eq!(color.to_string(), name);
        }
        assert_eq!(Color::Rgb(1, 0xAB, 0).to_string(), "#01ab00");
        assert_eq!(Color::Gold.rgb(), [0xFF, 0xAA, 0]);
        assert_eq!(Color::DarkRed.rgb(), [0xAA, 0, 0]);
        assert_eq!(Color::LightPurple.rgb(), [0xFF, 0x55, 0xFF]);
        assert_eq!(Color::White.rgb(), [0xFF; 3]);
        for bad in ["", "#", "#12345", "#1234567", "#+12345", "Red", "#12345é"] {
            assert_eq!(Color::from_name(bad), None, "{bad}");
        }
    }
}
