package configs

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the configuration. The message never holds
// the value of a secret.
type Problem struct {
	Key     string `json:"key"`              // the key, the variable, or "config" for the file as a whole
	Message string `json:"message"`          // what must be
	Source  string `json:"source,omitempty"` // who set it: file:line, a variable's name, default
}

// Problems is the error of Load: everything wrong, at once.
type Problems struct { //nolint:errname // a list, and as such shown to people
	List []Problem `json:"problems"`
}

// Error lists the problems, one a line.
func (p *Problems) Error() string {
	var text strings.Builder
	text.WriteString("the configuration is wrong:")
	for _, problem := range p.List {
		text.WriteString("\n  ")
		if problem.Key != "" {
			text.WriteString(problem.Key + ": ")
		}
		text.WriteString(problem.Message)
		if problem.Source != "" && problem.Source != fromDefault {
			text.WriteString(" (" + problem.Source + ")")
		}
	}
	return text.String()
}

func (p *Problems) add(key, source, format string, args ...any) {
	p.List = append(p.List, Problem{Key: key, Message: fmt.Sprintf(format, args...), Source: source})
}

// has tells whether the key already has a problem: its value is then the
// default, and what follows from that would only confuse.
func (p *Problems) has(key string) bool {
	for _, problem := range p.List {
		if problem.Key == key {
			return true
		}
	}
	return false
}

func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	return p
}
