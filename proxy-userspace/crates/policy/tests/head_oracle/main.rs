//! The corpus of the fuzz target `headers`, replayed without a fuzzer, and changed at random.

mod oracle;

#[path = "../corpus/changed.rs"]
mod changed;
#[path = "../corpus/corpus.rs"]
mod corpus;

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    corpus::replay("headers", oracle::check);
}

#[test]
fn whatever_becomes_of_the_corpus_is_read_as_others_read_it_or_refused() {
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        ";a=\"b\"",
        "0x",
        "+",
        ",",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{fc}",
    ];
    changed::judge("headers", &pieces, oracle::check);
}
