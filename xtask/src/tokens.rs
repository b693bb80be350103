//! Rust source as words and signs, without comments: as much of the language as the checks need.

/// One piece of source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// The inside of a string literal, as written.
    Text(String),
    /// Any other single character.
    Sign(char),
}

/// A token and the line that it begins on, from 1.
pub(crate) type Placed = (Token, usize);

/// Splits source into tokens. Lifetimes become a sign and a word; character literals become nothing.
pub(crate) fn split(source: &str) -> Vec<Placed> {
    let mut scanner = Scanner { rest: source.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(next) = scanner.peek(0) {
        let line = scanner.line;
        if next.is_whitespace() {
            scanner.step();
        } else if next == '/' && scanner.peek(1) == Some('/') {
            while scanner.peek(0).is_some_and(|char| char != '\n') {
                scanner.step();
            }
        } else if next == '/' && scanner.peek(1) == Some('*') {
            scanner.block_comment();
        } else if let Some(text) = scanner.string() {
            tokens.push((Token::Text(text), line));
        } else if next == '\'' {
            if !scanner.character() {
                scanner.step();
                tokens.push((Token::Sign('\''), line));
            }
        } else if is_word(next) {
            let mut word = String::new();
            while let Some(char) = scanner.peek(0).filter(|char| is_word(*char)) {
                word.push(char);
                scanner.step();
            }
            tokens.push((Token::Word(word), line));
        } else {
            scanner.step();
            tokens.push((Token::Sign(next), line));
        }
    }
    tokens
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

struct Scanner {
    rest: Vec<char>,
    at: usize,
    line: usize,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.step();
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.step();
                }
                _ => {}
            }
            self.step();
            if depth == 0 {
                return;
            }
        }
    }

    /// A string literal of any kind, if one begins here.
    fn string(&mut self) -> Option<String> {
        let mut ahead = 0;
        while self.peek(ahead).is_some_and(|char| matches!(char, 'b' | 'c' | 'r')) && ahead < 2 {
            ahead += 1;
        }
        let raw = ahead > 0 && self.peek(ahead - 1) == Some('r');
        let mut hashes = 0;
        while raw && self.peek(ahead + hashes) == Some('#') {
            hashes += 1;
        }
        if self.peek(ahead + hashes) != Some('"') {
            return None;
        }
        for _ in 0..=ahead + hashes {
            self.step();
        }
        let mut text = String::new();
        while let Some(char) = self.peek(0) {
            if char == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                for _ in 0..=hashes {
                    self.step();
                }
                break;
            }
            text.push(char);
            self.step();
            if char == '\\' && !raw {
                if let Some(escaped) = self.peek(0) {
                    text.push(escaped);
                }
                self.step();
            }
        }
        Some(text)
    }

    /// Steps over a character literal, if it is one and not a lifetime.
    fn character(&mut self) -> bool {
        let end = match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                let mut end = 3;
                while self.peek(end).is_some_and(|char| char != '\'') {
                    end += 1;
                }
                end
            }
            (Some(_), Some('\'')) => 2,
            _ => return false,
        };
        for _ in 0..=end {
            self.step();
        }
        true
    }
}

/// Takes away what is only built for tests: `#[cfg(test)]` and the item after it, where that is a block.
pub(crate) fn without_tests(tokens: &[Placed]) -> Vec<Placed> {
    let mark = split("#[cfg(test)]");
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let here = tokens.get(at..at + mark.len()).unwrap_or_default();
        let marked = !here.is_empty() && here.iter().zip(&mark).all(|((token, _), (wanted, _))| token == wanted);
        if marked {
            at = item_end(tokens, at + mark.len());
        } else {
            kept.extend(tokens.get(at).cloned());
            at += 1;
        }
    }
    kept
}

/// Where the item that begins at `at` ends: after its block, or after its semicolon.
fn item_end(tokens: &[Placed], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some((token, _)) = tokens.get(at) {
        at += 1;
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            Token::Sign(';') if depth == 0 => break,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        let words = split(source).into_iter().filter_map(|(token, _)| match token {
            Token::Word(word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" 'i' '\\'' b\"j\" r#\"k\" l\"# m<'n>";
        assert_eq!(words(source), ["a", "e", "m", "n"]);
    }

    #[test]
    fn a_word_that_begins_like_a_string_is_a_word() {
        assert_eq!(words("break bc r #x"), ["break", "bc", "r", "x"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let tokens = split("/*\n*/ \"\n\\\n\" 'x' end");
        assert_eq!(tokens.last(), Some(&(Token::Word("end".into()), 4)));
    }

    #[test]
    fn test_code_goes_and_the_rest_stays() {
        let source = "use a; #[cfg(test)] mod tests { fn b() { c() } } fn d() {} #[cfg(test)] mod e; f";
        let kept = without_tests(&split(source));
        let kept =
            kept.into_iter().filter_map(|(token, _)| if let Token::Word(word) = token { Some(word) } else { None });
        assert_eq!(kept.collect::<Vec<_>>(), ["use", "a", "fn", "d", "f"]);
    }
}
