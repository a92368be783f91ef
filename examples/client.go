// A client of assay's socket protocol in plain Go: hands a program in with tests, follows it, prints the verdict.
//
//	go run client.go LANGUAGE FILE INPUT=EXPECTED...
//	go run client.go python double.py 21=42 -4=-8
//
// The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the
// client connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
// Exit status: 0 accepted, 1 not accepted, 2 refused.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const patience = 60 * time.Second // without any progress

// Refused is an error reply. Code is a word of a closed list; RetryAfterMs, where it is there, says when to try again.
type Refused struct {
	Message string `json:"message"`
	Data    struct {
		Code         string `json:"code"`
		Message      string `json:"message"`
		Field        string `json:"field"`
		RetryAfterMs *int64 `json:"retry_after_ms"`
	} `json:"data"`
}

func (r *Refused) Error() string { return r.Data.Code + ": " + r.Data.Message }

// Event is what happens to a submission. Data is text, but for usage.
type Event struct {
	Seq     uint64          `json:"seq"`
	Kind    string          `json:"kind"`
	Test    string          `json:"test"`
	Data    json.RawMessage `json:"data"`
	DataB64 []byte          `json:"data_b64"`
}

type message struct {
	ID     *int64          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *Refused        `json:"error"`
}

// File, Test and Submission have the fields that this client uses; the daemon refuses what it does not know.
type File struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

type Test struct {
	Stdin  string `json:"stdin"`
	Expect string `json:"expect"`
}

type Submission struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Entry    string `json:"entry"`
	Files    []File `json:"files"`
	Tests    []Test `json:"tests"`
}

// Report has the fields that this client shows; what it does not know is ignored.
type Report struct {
	Verdict string `json:"verdict"`
	Message string `json:"message"`
	Tests   []struct {
		Name    string `json:"name"`
		Verdict string `json:"verdict"`
	} `json:"tests"`
	Score struct {
		Passed int `json:"passed"`
		Total  int `json:"total"`
	} `json:"score"`
}

// Conn is one connection, with one call at a time.
type Conn struct {
	conn   net.Conn
	lines  *bufio.Reader
	lastID int64
}

// Dial connects and reads the greeting: the server speaks first.
func Dial(path string) (*Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, lines: bufio.NewReader(conn)}
	hello, err := c.read()
	if err != nil {
		conn.Close()
		return nil, err
	}
	var params struct {
		Protocol int `json:"protocol"`
	}
	switch {
	case hello.Error != nil: // too many connections
		err = hello.Error
	case json.Unmarshal(hello.Params, &params) != nil || params.Protocol != 1:
		err = fmt.Errorf("%s does not speak protocol 1", path)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) read() (*message, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	m := new(message)
	return m, json.Unmarshal(line, m)
}

// Call decodes the result; events that come before it go to onEvent.
func (c *Conn) Call(method string, params, result interface{}, onEvent func(Event)) error {
	c.lastID++
	request := map[string]interface{}{"jsonrpc": "2.0", "id": c.lastID, "method": method, "params": params}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return err
	}
	for {
		m, err := c.read()
		if err != nil {
			return err
		}
		switch {
		case m.Method == "submission.event" && onEvent != nil:
			var event Event
			if err := json.Unmarshal(m.Params, &event); err != nil {
				return err
			}
			onEvent(event)
		case m.Method != "" || m.ID == nil || *m.ID != c.lastID:
		case m.Error != nil:
			return m.Error
		default:
			return json.Unmarshal(m.Result, result)
		}
	}
}

// judge answers the report, whatever happens to the connection meanwhile.
func judge(path string, submission Submission) (*Report, error) {
	var next uint64
	deadline := time.Now().Add(patience)
	onEvent := func(event Event) {
		next, deadline = event.Seq+1, time.Now().Add(patience)
		show(event)
	}
	attempt := func() (*Report, error) {
		c, err := Dial(path)
		if err != nil {
			return nil, err
		}
		defer c.conn.Close()
		var submitted struct{}
		if err := c.Call("submission.submit", submission, &submitted, nil); err != nil {
			return nil, err
		}
		wait := map[string]interface{}{"id": submission.ID, "stream": true, "from_seq": next}
		report := new(Report)
		return report, c.Call("submission.wait", wait, report, onEvent)
	}
	for {
		report, err := attempt()
		if err == nil {
			return report, nil
		}
		var refused *Refused
		pause := 200 * time.Millisecond
		if errors.As(err, &refused) {
			if refused.Data.RetryAfterMs == nil {
				return nil, err
			}
			pause = time.Duration(*refused.Data.RetryAfterMs) * time.Millisecond
			if pause > 2*time.Second {
				pause = 2 * time.Second
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		if refused != nil {
			fmt.Fprintf(os.Stderr, "refused (%s), trying again\n", refused.Data.Code)
		} else {
			fmt.Fprintf(os.Stderr, "connection lost (%v), connecting again\n", err)
		}
		time.Sleep(pause)
	}
}

func show(event Event) {
	var text string
	if event.DataB64 != nil { // output that is no UTF-8
		text = base64.StdEncoding.EncodeToString(event.DataB64)
	} else if json.Unmarshal(event.Data, &text) != nil {
		text = string(event.Data)
	}
	switch {
	case event.Kind == "stdout" || event.Kind == "stderr":
		fmt.Fprintf(os.Stderr, "  %s: %s\n", event.Test+" "+event.Kind, strings.TrimRight(text, "\n"))
	case event.Kind == "test":
		fmt.Fprintf(os.Stderr, "test %s: %s\n", event.Test, text)
	default:
		fmt.Fprintln(os.Stderr, strings.TrimSpace(event.Kind+" "+text))
	}
}

func main() {
	os.Exit(run())
}

func run() int {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: client LANGUAGE FILE INPUT=EXPECTED...")
		return 2
	}
	language, file := os.Args[1], os.Args[2]
	content, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	path := os.Getenv("ASSAY_SOCKET")
	if path == "" {
		path = "/run/assay/assay.sock"
	}
	id := os.Getenv("ASSAY_ID")
	if id == "" {
		random := make([]byte, 16)
		rand.Read(random)
		id = hex.EncodeToString(random)
	}
	name := filepath.Base(file)
	submission := Submission{ID: id, Language: language, Entry: name, Files: []File{{Path: name, Content: string(content)}}}
	for _, pair := range os.Args[3:] {
		parts := strings.SplitN(pair, "=", 2)
		if len(parts) != 2 {
			fmt.Fprintf(os.Stderr, "%s is not INPUT=EXPECTED\n", pair)
			return 2
		}
		submission.Tests = append(submission.Tests, Test{Stdin: parts[0] + "\n", Expect: parts[1]})
	}
	report, err := judge(path, submission)
	if err != nil {
		fmt.Fprintf(os.Stderr, "refused: %v\n", err)
		return 2
	}
	for _, test := range report.Tests {
		fmt.Println(test.Name, test.Verdict)
	}
	fmt.Printf("%s %d/%d\n", report.Verdict, report.Score.Passed, report.Score.Total)
	if report.Verdict != "accepted" {
		return 1
	}
	return 0
}
