//! Reading XML answers into a small tree.

use anyhow::Context;
use quick_xml::Reader;
use quick_xml::events::Event;

/// An element: its text, and the elements in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document.
    pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the answer is not UTF-8")?;
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Element> = vec![Element::default()];
        loop {
            match reader.read_event().context("the answer is not XML")? {
                Event::Start(start) => {
                    let name = start.local_name().as_ref().to_owned();
                    open.push(Element { name, ..Element::default() });
                }
                Event::Empty(start) => {
                    let name = start.local_name().as_ref().to_owned();
                    if let Some(parent) = open.last_mut() {
                        parent.children.push(Element { name, ..Element::default() });
                    }
                }
                Event::End(_) => {
                    if open.len() > 1
                        && let Some(element) = open.pop()
                        && let Some(parent) = open.last_mut()
                    {
                        parent.children.push(element);
                    }
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text);
                    }
                }
                Event::GeneralRef(reference) => {
                    let resolved = match reference.resolve_char_ref()? {
                        Some(c) => c.to_string(),
                        None => match reference.as_ref() {
                            "amp" => "&".to_owned(),
                            "lt" => "<".to_owned(),
                            "gt" => ">".to_owned(),
                            "quot" => "\"".to_owned(),
                            "apos" => "'".to_owned(),
                            _ => String::new(),
                        },
                    };
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&resolved);
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let root = open.swap_remove(0).children.into_iter().next();
        root.context("the answer is an empty document")
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The text of the first child of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|c| c.text.as_str())
    }

    /// The members of the list of that name.
    pub(crate) fn members(&self, name: &str) -> &[Element] {
        self.child(name).map_or(&[], |list| &list.children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_references() {
        let text = b"<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><L><member><K>a &amp; b&#x41;</K></member><member/></L></R>";
        let root = Element::parse(text).unwrap();
        assert_eq!(root.members("L").len(), 2);
        assert_eq!(root.members("L")[0].text("K"), Some("a & bA"));
        assert!(Element::parse(b"{}").is_err());
    }
}
