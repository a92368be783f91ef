//! A program in each language as people write it: it prints its argument and the sum of the numbers
//! that it reads, then text that is not ASCII, and ends with a status of its own.

use serde_json::json;

use crate::harness::{Daemon, Options, patient, with};

/// Languages, files and programs.
#[rustfmt::skip]
pub const PROGRAMS: &[(&str, &str, &str)] = &[
    ("ada", "main.adb", r#"with Ada.Text_IO; use Ada.Text_IO;
with Ada.Integer_Text_IO; with Ada.Command_Line; use Ada.Command_Line;
procedure Main is
   S : Integer := 0; N : Integer;
begin
   while not End_Of_File loop Ada.Integer_Text_IO.Get (N); S := S + N; if not End_Of_File then null; end if; exit when End_Of_File; end loop;
   Put_Line (Argument (1) & Integer'Image (S)); Put_Line ("héllo ✓ 日本");
   Set_Exit_Status (3);
end Main;"#),
    ("awk", "main.awk", r#"BEGIN { g = ARGV[1]; ARGC = 1 }
{ for (i = 1; i <= NF; i++) s += $i }
END { print g, s; print "héllo ✓ 日本"; exit 3 }"#),
    ("bash", "main.sh", r#"#!/bin/bash
s=0
while read -r a b; do for x in $a $b; do s=$((s+x)); done; done
echo "$1 $s"; echo "héllo ✓ 日本"; exit 3"#),
    ("c", "main.c", r#"#include <stdio.h>
#include <stdlib.h>
int main(int argc,char**argv){long s=0,x;while(scanf("%ld",&x)==1)s+=x;printf("%s %ld\n",argv[1],s);puts("héllo ✓ 日本");return 3;}"#),
    ("clojure", "main.clj", r#"(require '[clojure.string :as str])
(let [xs (map #(Long/parseLong %) (remove empty? (str/split (slurp *in*) #"\s+")))]
  (println (first *command-line-args*) (reduce + xs)) (println "héllo ✓ 日本") (flush) (System/exit 3))"#),
    ("cobol", "main.cob", r#"identification division.
program-id. main.
data division.
working-storage section.
01 a pic 9(4). 01 b pic 9(4). 01 l pic x(80). 01 s pic 9(4) value 0. 01 r pic z(3)9. 01 g pic x(20).
procedure division.
    accept g from argument-value
    accept l
    unstring l delimited by space into a b
    compute s = a + b
    accept l
    unstring l delimited by space into a b
    compute s = s + a + b
    move s to r
    display function trim(g) " " function trim(r)
    display "héllo ✓ 日本"
    move 3 to return-code
    stop run."#),
    ("cobol", "main.cob", r#"       IDENTIFICATION DIVISION.
       PROGRAM-ID. HELLO.
      * a comment in column 7
       PROCEDURE DIVISION.
           DISPLAY "x 10".
           DISPLAY "héllo ✓ 日本".
           MOVE 3 TO RETURN-CODE.
           STOP RUN."#),
    ("cpp", "main.cpp", r#"#include <bits/stdc++.h>
using namespace std;
int main(int argc,char**argv){ios::sync_with_stdio(false);cin.tie(nullptr);vector<long> v(istream_iterator<long>(cin),{});cout<<argv[1]<<" "<<accumulate(v.begin(),v.end(),0L)<<"\n"<<"héllo ✓ 日本"<<endl;return 3;}"#),
    ("crystal", "main.cr", r##"s = STDIN.gets_to_end.split.map(&.to_i).sum
puts "#{ARGV[0]} #{s}"
puts "héllo ✓ 日本"
exit 3"##),
    ("csharp", "Main.cs", r#"using System;
using System.Linq;
class Program {
  static int Main(string[] args) {
    var s = Console.In.ReadToEnd().Split((char[])null, StringSplitOptions.RemoveEmptyEntries).Select(int.Parse).Sum();
    Console.WriteLine($"{args[0]} {s}");
    Console.WriteLine("héllo ✓ 日本");
    return 3;
  }
}"#),
    ("d", "main.d", r#"import std.stdio, std.algorithm, std.conv, std.array;
int main(string[] args) {
  int s = 0;
  foreach (line; stdin.byLine) s += line.split.map!(to!int).sum;
  writeln(args[1], " ", s);
  writeln("héllo ✓ 日本");
  return 3;
}"#),
    ("elixir", "main.exs", r##"s = IO.read(:stdio, :eof) |> String.split() |> Enum.map(&String.to_integer/1) |> Enum.sum()
IO.puts("#{hd(System.argv())} #{s}")
IO.puts("héllo ✓ 日本")
System.halt(3)"##),
    ("erlang", "main.erl", r#"-module(main).
-export([main/0]).
read(S) -> case io:fread("", "~d") of {ok, [N]} -> read(S + N); eof -> S end.
main() ->
  S = read(0),
  [A | _] = init:get_plain_arguments(),
  io:format("~ts ~p~n", [A, S]), io:format("~ts~n", ["héllo ✓ 日本"]),
  halt(3)."#),
    ("fortran", "main.f90", r#"program main
  implicit none
  integer :: a, b, ios, s
  character(len=20) :: g
  s = 0
  do
    read(*,*,iostat=ios) a, b
    if (ios /= 0) exit
    s = s + a + b
  end do
  call get_command_argument(1, g)
  write(*,'(a,a,i0)') trim(g), " ", s
  print '(a)', "héllo ✓ 日本"
  stop 3
end program"#),
    ("go", "main.go", r#"package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	s := 0
	for {
		var x int
		if _, err := fmt.Fscan(in, &x); err != nil {
			break
		}
		s += x
	}
	fmt.Println(os.Args[1], s)
	fmt.Println("héllo ✓ 日本")
	os.Exit(3)
}"#),
    ("haskell", "main.hs", r#"import System.Environment
import System.Exit
main :: IO ()
main = do
  args <- getArgs
  s <- sum . map read . words <$> getContents :: IO Int
  putStrLn (head args ++ " " ++ show s)
  putStrLn "héllo ✓ 日本"
  exitWith (ExitFailure 3)"#),
    ("java", "Main.java", r#"import java.util.*;
public class Main {
  public static void main(String[] args) {
    Scanner in = new Scanner(System.in);
    int s = 0;
    while (in.hasNextInt()) s += in.nextInt();
    System.out.println(args[0] + " " + s);
    System.out.println("héllo ✓ 日本");
    System.exit(3);
  }
}"#),
    ("javascript", "main.js", r#"const s = require('fs').readFileSync(0, 'utf8').split(/\s+/).filter(Boolean).map(Number).reduce((a, b) => a + b, 0);
console.log(process.argv[2], s);
console.log('héllo ✓ 日本');
process.exit(3);"#),
    ("kotlin", "Main.kt", r#"import kotlin.system.exitProcess
fun main(args: Array<String>) {
  val s = generateSequence(::readLine).flatMap { it.split(" ").asSequence() }.filter { it.isNotBlank() }.map { it.toInt() }.sum()
  println("${args[0]} $s")
  println("héllo ✓ 日本")
  exitProcess(3)
}"#),
    ("lisp", "main.lisp", r#"(let ((s (loop for x = (read *standard-input* nil nil) while x sum x)))
  (format t "~a ~d~%" (second sb-ext:*posix-argv*) s)
  (format t "héllo ✓ 日本~%")
  (finish-output)
  (sb-ext:exit :code 3))"#),
    ("lua", "main.lua", r#"local s = 0
for l in io.lines() do for w in l:gmatch("%S+") do s = s + math.tointeger(tonumber(w)) end end
print(arg[1], s)
print("héllo ✓ 日本")
os.exit(3)"#),
    ("nasm", "main.asm", r#"        extern scanf, printf, puts, exit
        global main
        section .data
f:      db "%d", 0
o:      db "%s %d", 10, 0
u:      db "héllo ✓ 日本", 0
        section .bss
n:      resd 1
        section .text
main:   push rbx
        push r12
        push r13
        mov r12, [rsi + 8]
        xor ebx, ebx
.l:     lea rdi, [rel f]
        lea rsi, [rel n]
        xor eax, eax
        call scanf wrt ..plt
        cmp eax, 1
        jne .d
        add ebx, [rel n]
        jmp .l
.d:     lea rdi, [rel o]
        mov rsi, r12
        mov edx, ebx
        xor eax, eax
        call printf wrt ..plt
        lea rdi, [rel u]
        call puts wrt ..plt
        mov edi, 3
        call exit wrt ..plt"#),
    ("objective-c", "main.m", r#"#import <Foundation/Foundation.h>
#include <stdio.h>
int main(int argc, const char *argv[]) {
  NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
  int s = 0, x;
  while (scanf("%d", &x) == 1) s += x;
  NSString *t = [NSString stringWithFormat: @"%s %d", argv[1], s];
  printf("%s\n", [t UTF8String]);
  printf("%s\n", "héllo ✓ 日本");
  [pool drain];
  return 3;
}"#),
    ("ocaml", "main.ml", r#"let () =
  let s = ref 0 in
  (try while true do s := !s + Scanf.scanf " %d" (fun x -> x) done with End_of_file | Scanf.Scan_failure _ -> ());
  Printf.printf "%s %d\n" Sys.argv.(1) !s;
  print_endline "héllo ✓ 日本";
  exit 3"#),
    ("octave", "main.m", r#"x = fscanf(stdin, "%d");
a = argv();
printf("%s %d\n", a{end}, sum(x));
printf("héllo ✓ 日本\n");
exit(3);"#),
    ("pascal", "main.pas", r#"program main;
var s, x: longint;
begin
  s := 0;
  while not seekeof do begin read(x); s := s + x; end;
  writeln(ParamStr(1), ' ', s);
  writeln('héllo ✓ 日本');
  halt(3);
end."#),
    ("perl", "main.pl", r#"use strict; use warnings;
my $s = 0;
while (<STDIN>) { $s += $_ for split }
print "$ARGV[0] $s\n";
print "héllo ✓ 日本\n";
exit 3;"#),
    ("php", "main.php", r#"<?php
$s = 0;
while (($l = fgets(STDIN)) !== false) foreach (preg_split("/\s+/", trim($l)) as $w) $s += (int)$w;
echo $argv[1], " ", $s, PHP_EOL;
echo "héllo ✓ 日本\n";
exit(3);"#),
    ("prolog", "main.pl", r#":- initialization(main).
read_all(S, S0) :- read_term(user_input, _, []), fail.
sum(L, S) :- sum_list(L, S).
main :- read_string(user_input, _, T), split_string(T, " \n", " \n", P), include([X]>>(X \== ""), P, Q), maplist([A,B]>>number_string(B, A), Q, N), sum(N, S), current_prolog_flag(argv, [A1|_]), format("~w ~w~n", [A1, S]), writeln("héllo ✓ 日本"), halt(3)."#),
    ("pypy", "main.py", r#"import sys
s = sum(map(int, sys.stdin.read().split()))
print(sys.argv[1], s)
print("héllo ✓ 日本")
sys.exit(3)"#),
    ("python", "main.py", r#"import sys
s = sum(map(int, sys.stdin.read().split()))
print(sys.argv[1], s)
print("héllo ✓ 日本")
sys.exit(3)"#),
    ("r", "main.r", r#"x <- scan(file("stdin"), quiet = TRUE)
a <- commandArgs(trailingOnly = TRUE)
cat(a[1], sum(x), "\n")
cat("héllo ✓ 日本\n")
quit(status = 3)"#),
    ("ruby", "main.rb", r##"s = STDIN.read.split.map(&:to_i).sum
puts "#{ARGV[0]} #{s}"
puts "héllo ✓ 日本"
exit 3"##),
    ("rust", "main.rs", r#"use std::io::{self, Read};
fn main() {
    let mut t = String::new();
    io::stdin().read_to_string(&mut t).unwrap();
    let s: i64 = t.split_whitespace().map(|x| x.parse::<i64>().unwrap()).sum();
    println!("{} {}", std::env::args().nth(1).unwrap(), s);
    println!("héllo ✓ 日本");
    std::process::exit(3);
}"#),
    ("scala", "Main.scala", r#"object Main {
  def main(args: Array[String]): Unit = {
    val s = scala.io.Source.stdin.getLines().flatMap(_.split(" ")).map(_.toInt).sum
    println(args(0) + " " + s)
    println("héllo ✓ 日本")
    sys.exit(3)
  }
}"#),
    ("scheme", "main.scm", r#"(define (loop s) (let ((x (read))) (if (eof-object? x) s (loop (+ s x)))))
(let ((s (loop 0)))
  (display (cadr (command-line))) (display " ") (display s) (newline)
  (display "héllo ✓ 日本") (newline)
  (exit 3))"#),
    ("sql", "main.sql", r#"create table t(x);
insert into t values (1),(2),(3),(4);
select 'x ' || sum(x) from t;
select 'héllo ✓ 日本';
.exit 3"#),
    ("swift", "main.swift", r#"import Foundation
var s = 0
while let line = readLine() { s += line.split(separator: " ").compactMap { Int($0) }.reduce(0, +) }
print(CommandLine.arguments[1], s)
print("héllo ✓ 日本")
exit(3)"#),
    ("tcl", "main.tcl", r#"set s 0
while {[gets stdin line] >= 0} { foreach w $line { incr s $w } }
puts "[lindex $argv 0] $s"
puts "héllo ✓ 日本"
exit 3"#),
    ("typescript", "main.ts", r#"import * as fs from 'fs';
const xs: number[] = fs.readFileSync(0, 'utf8').split(/\s+/).filter(Boolean).map(Number);
const s: number = xs.reduce((a, b) => a + b, 0);
console.log(process.argv[2], s);
console.log('héllo ✓ 日本');
process.exit(3);"#),
];

/// Languages that have no test of their own for each verdict elsewhere.
const SHIPPED: &str = "bash,c,cpp,go,haskell,java,javascript,lua,pascal,perl,php,python,ruby,rust,typescript";

/// What is wrong with what the programs of a language do; nothing if they do what they should.
pub fn mistakes(daemon: &Daemon, language: &str) -> Vec<String> {
    let mut caller = daemon.caller();
    let mut wrong = Vec::new();
    for (_, file, code) in PROGRAMS.iter().filter(|(name, ..)| *name == language) {
        let files = json!([{ "path": file, "content": code }]);
        let work = json!({ "language": language, "files": files, "args": ["x"], "stdin": "1 2\n3 4\n" });
        let work = with(patient(work), "compile_limits", json!({ "cpu_ms": 120_000, "wall_ms": 400_000 }));
        let report = caller.ok("submission.run", work);
        let stdout = report["run"]["stdout"].as_str().unwrap_or_default();
        let mut lines = stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let is_right = lines.next().as_deref() == Some("x 10")
            && lines.next().as_deref() == Some("h\u{e9}llo \u{2713} \u{65e5}\u{672c}");
        if !is_right || report["run"]["exit_code"] != 3 {
            wrong.push(format!("{language} as written: {report:#}"));
        }
    }
    wrong
}

#[test]
fn a_program_of_every_language_reads_its_input_and_its_arguments() {
    let daemon = Daemon::start(&Options { profiles: SHIPPED, floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    SHIPPED.split(',').for_each(|profile| drop(caller.ok("image.build", json!({ "profile": profile }))));
    let wrong: Vec<String> = SHIPPED.split(',').flat_map(|language| mistakes(&daemon, language)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
