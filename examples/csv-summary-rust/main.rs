//! Sums a column of a CSV file per key: `csv-summary INPUT OUTPUT KEY_COLUMN VALUE_COLUMN` (columns from 1).
//! The environment variable SEPARATOR says what stands between columns; a comma without it.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::exit;

struct Total {
    key: String,
    rows: u64,
    sum: f64,
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, output, key, value] = match <[String; 4]>::try_from(args) {
        Ok(four) => four,
        Err(_) => fail(2, "usage: csv-summary INPUT OUTPUT KEY_COLUMN VALUE_COLUMN"),
    };
    let (key, value) = (column_number(&key), column_number(&value));
    let separator = env::var("SEPARATOR").unwrap_or_else(|_| ",".to_string());
    let (rows, totals) = match summarise(&input, &separator, key, value) {
        Ok(found) => found,
        Err(error) => fail(1, &format!("{input}: {error}")),
    };
    if let Err(error) = write_totals(&output, &totals) {
        fail(1, &format!("{output}: {error}"));
    }
    println!("{rows} rows, {} keys", totals.len());
}

fn column_number(text: &str) -> usize {
    match text.parse() {
        Ok(number) if number > 0 => number,
        _ => fail(2, &format!("not a column: {text}")),
    }
}

/// Keys in the order of their first row; the first line is the header.
fn summarise(path: &str, separator: &str, key: usize, value: usize) -> io::Result<(u64, Vec<Total>)> {
    let mut totals: Vec<Total> = Vec::new();
    let mut rows = 0;
    for line in BufReader::new(File::open(path)?).lines().skip(1) {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        rows += 1;
        let fields: Vec<&str> = line.split(separator).collect();
        let amount: f64 = match fields.get(value - 1).map(|text| text.trim().parse()) {
            Some(Ok(amount)) => amount,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("row {rows}: no number in column {value}"))),
        };
        let name = fields.get(key - 1).copied().unwrap_or("");
        match totals.iter_mut().find(|total| total.key == name) {
            Some(total) => {
                total.rows += 1;
                total.sum += amount;
            }
            None => totals.push(Total { key: name.to_string(), rows: 1, sum: amount }),
        }
    }
    Ok((rows, totals))
}

fn write_totals(path: &str, totals: &[Total]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "key,rows,sum")?;
    for Total { key, rows, sum } in totals {
        writeln!(out, "{key},{rows},{sum:.2}")?;
    }
    out.flush()
}

fn fail(code: i32, message: &str) -> ! {
    eprintln!("{message}");
    exit(code)
}
