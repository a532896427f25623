package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/rules"
	"holdfast/rules/rulestest"
)

func testCommand() *cobra.Command {
	var names, junit string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [PATH...]",
		Short: "Run the tests of rules",
		Long: `Run the tests beside rules: files named *_test.yaml, which say what happens,
and what must come out. A PATH is a test file, a file with rules that has one
beside it, or a directory, which is searched with all below it; the current
directory if there is none. The rules run as in a gateway, on a clock that
moves only as the tests say.

The exit code is 1 if a test fails, and 3 if a file has mistakes.`,
		Example: `  holdfast test rules
  holdfast test rules/boiler_test.yaml --run 'hot boiler'
  holdfast test --junit results.xml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var only *regexp.Regexp
			if names != "" {
				var err error
				if only, err = regexp.Compile(names); err != nil {
					return usagef("--run %s: %v", names, err)
				}
			}
			files, err := testFiles(args)
			if err != nil {
				return err
			}
			t := tester{cmd: cmd, only: only, verbose: verbose}
			for _, path := range files {
				t.run(path)
			}
			if junit != "" {
				if err := t.writeJUnit(junit); err != nil {
					return err
				}
			}
			return t.summary()
		},
	}
	cmd.Flags().StringVar(&names, "run", "", "run only tests whose name matches `REGEXP`")
	cmd.Flags().StringVar(&junit, "junit", "", "write the results as JUnit XML to `FILE`")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "name the tests that pass too")
	return cmd
}

// testFiles finds the test files of the command line.
func testFiles(args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	var files []string
	for _, arg := range args {
		arg = strings.TrimSuffix(strings.TrimSuffix(arg, "..."), "/")
		if arg == "" {
			arg = "."
		}
		info, err := os.Stat(arg)
		var pathErr *fs.PathError
		switch {
		case errors.As(err, &pathErr):
			return nil, usagef("there are no tests at %s: %v", arg, pathErr.Err)
		case err != nil:
			return nil, err
		case !info.IsDir():
			if !strings.HasSuffix(arg, rulestest.Suffix) {
				arg = strings.TrimSuffix(arg, filepath.Ext(arg)) + rulestest.Suffix
				if _, err := os.Stat(arg); err != nil {
					return nil, usagef("there is no %s with tests", arg)
				}
			}
			files = append(files, arg)
			continue
		}
		err = filepath.WalkDir(filepath.Join(arg, "."), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, rulestest.Suffix) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, usagef("there is no file *%s in %s", rulestest.Suffix, strings.Join(args, ", "))
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// tester runs test files and says how it went.
type tester struct {
	cmd     *cobra.Command
	only    *regexp.Regexp
	verbose bool

	suites         []rulestest.Suite
	passed, failed int
	invalid        config.Errors
}

// rulesOf compiles the rules of a configuration.
func rulesOf(paths ...string) (*rules.Set, error) {
	cfg, err := gateway.Load(paths, parts())
	if err != nil {
		return nil, err
	}
	return cfg.Rules, nil
}

func (t *tester) run(path string) {
	loader := rulestest.Loader{Config: func(path string) (*rules.Set, error) { return rulesOf(path) }}
	file, err := loader.Load(path)
	suite := rulestest.Suite{File: path, Err: err}
	out := t.cmd.OutOrStdout()
	if err != nil {
		t.invalid.Add(err)
		fmt.Fprintf(out, "FAIL  %s  not valid\n", path)
	} else {
		suite.Results = file.Run(t.only, time.Now)
		t.print(path, suite.Results)
	}
	t.suites = append(t.suites, suite)
}

func (t *tester) print(path string, results []rulestest.Result) {
	out := t.cmd.OutOrStdout()
	failed := 0
	for _, r := range results {
		switch {
		case !r.Passed():
			failed++
			fmt.Fprintf(out, "--- FAIL: %s (%s:%d)\n", r.Test.Name, path, r.Test.Pos.Line)
			for _, f := range r.Faults {
				fmt.Fprintf(out, "    %s\n", strings.ReplaceAll(f.String(), "\n", "\n    "))
			}
		case t.verbose:
			fmt.Fprintf(out, "--- ok: %s (%s:%d)\n", r.Test.Name, path, r.Test.Pos.Line)
		}
	}
	t.failed += failed
	t.passed += len(results) - failed
	switch {
	case failed > 0:
		fmt.Fprintf(out, "FAIL  %s  %d of %s failed\n", path, failed, plural(len(results), "test"))
	case len(results) > 0:
		fmt.Fprintf(out, "ok    %s  %s\n", path, plural(len(results), "test"))
	}
}

func (t *tester) writeJUnit(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	err = rulestest.WriteJUnit(f, t.suites)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write the results to %s: %w", path, err)
	}
	return nil
}

func (t *tester) summary() error {
	if len(t.invalid) > 0 {
		fmt.Fprintf(t.cmd.ErrOrStderr(), "%v\n%s\n", t.invalid.Err(), countMistakes(t.invalid))
		return &exitError{code: exitConfig}
	}
	switch {
	case t.failed > 0:
		fmt.Fprintf(t.cmd.OutOrStdout(), "%d passed, %d failed\n", t.passed, t.failed)
		return &exitError{code: exitFailed}
	case t.passed == 0:
		return usagef("no test has a name that matches %s", t.only)
	}
	fmt.Fprintf(t.cmd.OutOrStdout(), "%d passed\n", t.passed)
	return nil
}
