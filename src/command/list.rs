//! Lists of bounded length in texts for players.

use serde_json::{Value, json};

/// A text of at most `max` of these parts, separated by commas, and the number of the
/// others.
pub(super) fn list(parts: Vec<Value>, max: usize) -> Value {
    let left_out = parts.len().saturating_sub(max);
    let mut extra = Vec::new();
    for part in parts.into_iter().take(max) {
        if !extra.is_empty() {
            extra.push(json!(", "));
        }
        extra.push(part);
    }
    if left_out > 0 {
        extra.push(json!(format!(" and {left_out} more")));
    }
    json!({ "text": "", "extra": extra })
}

/// `one player`, or the number of players.
pub(super) fn players(count: usize) -> String {
    match count {
        1 => "1 player".to_owned(),
        count => format!("{count} players"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list is bounded, and shows the number of parts that are left out.
    #[test]
    fn lists_are_bounded() {
        let parts = |count: usize| (0..count).map(|number| json!(number.to_string())).collect();
        let text = |count| {
            let list = list(parts(count), 2);
            let extra = list["extra"].as_array().unwrap().clone();
            extra.iter().filter_map(Value::as_str).collect::<String>()
        };
        assert_eq!(text(0), "");
        assert_eq!(text(2), "0, 1");
        assert_eq!(text(5), "0, 1 and 3 more");
        assert_eq!(players(0), "0 players");
        assert_eq!(players(1), "1 player");
    }
}
