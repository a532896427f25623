package rulestest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Suite are the results of one file.
type Suite struct {
	File    string
	Results []Result
	Err     error // why the file could not be run; nil if it was
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string      `xml:"name,attr"`
	Class   string      `xml:"classname,attr"`
	File    string      `xml:"file,attr"`
	Line    int         `xml:"line,attr,omitempty"`
	Time    string      `xml:"time,attr"`
	Failure *junitFault `xml:"failure"`
	Error   *junitFault `xml:"error"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// WriteJUnit writes the results in the XML that build servers read. A file
// that could not be run is a case with an error.
func WriteJUnit(w io.Writer, suites []Suite) error {
	var all junitSuites
	var total time.Duration
	for _, s := range suites {
		out := junitSuite{Name: s.File, Tests: len(s.Results)}
		var took time.Duration
		for _, r := range s.Results {
			c := junitCase{Name: r.Test.Name, Class: s.File, File: s.File, Line: r.Test.Pos.Line, Time: seconds(r.Took)}
			took += r.Took
			if !r.Passed() {
				out.Failures++
				var text []string
				for _, f := range r.Faults {
					text = append(text, f.String())
				}
				c.Failure = &junitFault{Message: r.Faults[0].Msg, Text: "\n" + strings.Join(text, "\n") + "\n"}
			}
			out.Cases = append(out.Cases, c)
		}
		if s.Err != nil {
			out.Tests, out.Errors = out.Tests+1, 1
			out.Cases = append(out.Cases, junitCase{Name: "the file is valid", Class: s.File, File: s.File, Time: seconds(0),
				Error: &junitFault{Message: "the file or its rules have mistakes", Text: "\n" + s.Err.Error() + "\n"}})
		}
		out.Time = seconds(took)
		total += took
		all.Tests, all.Failures, all.Errors = all.Tests+out.Tests, all.Failures+out.Failures, all.Errors+out.Errors
		all.Suites = append(all.Suites, out)
	}
	all.Time = seconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
