package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
)

// Parse reads a job strictly and checks it: an unknown or repeated field, a
// wrong type, trailing bytes and everything that Validate checks are refused by
// name, all at once, as one *Error with code invalid_job. The job is returned in
// any case, as far as it could be read, so that its inputs can still be deleted.
func Parse(data []byte, limits Limits) (*Job, error) {
	j := &Job{}
	var p problems
	if err := j.decode(data, &p); err != nil {
		return j, err
	}
	j.check(&p, limits)
	return j, p.err()
}

// Decode is Parse without what Validate checks.
func Decode(data []byte) (*Job, error) {
	j := &Job{}
	var p problems
	if err := j.decode(data, &p); err != nil {
		return j, err
	}
	return j, p.err()
}

func (j *Job) decode(data []byte, p *problems) error {
	if len(data) > MaxPayload {
		return Errorf(InvalidJob, "the job must be at most %d bytes of JSON", MaxPayload)
	}
	if err := decodeObject(data, "", reflect.ValueOf(j).Elem(), p); err != nil {
		return Errorf(InvalidJob, "the job must be one JSON object")
	}
	return nil
}

var errNotObject = errors.New("not a JSON object")

// decodeObject fills the fields of a struct one by one, which lets one pass
// report every problem; encoding/json alone stops at the first and matches
// names without regard to case.
func decodeObject(data []byte, path string, into reflect.Value, p *problems) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errNotObject
	}
	fields := fieldsByName(into)
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return errNotObject
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return errNotObject
		}
		name, _ := key.(string)
		field, known := fields[name]
		switch {
		case !known:
			nearest := nearest(name, fields)
			p.add("%s: unknown field%s", path+printable(name), suggestion(nearest))
			keepIfMeant(path+nearest, fields)
		case seen[name]:
			p.add("%s: given twice", path+name)
		default:
			seen[name] = true
			if !decodeField(raw, path+name, field, p) {
				keepIfMeant(path+name, fields)
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return errNotObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errNotObject
	}
	return nil
}

// keepIfMeant keeps the inputs of a job that meant to say so and mistyped it:
// they may be others' too, and deleting is for good.
func keepIfMeant(name string, fields map[string]reflect.Value) {
	if name == "keep_input" {
		fields[name].SetBool(true)
	}
}

// decodeField reports whether the field could be read.
func decodeField(raw json.RawMessage, path string, field reflect.Value, p *problems) bool {
	if string(raw) == "null" {
		return true
	}
	if field.Kind() == reflect.Pointer && field.Type().Elem() == reflect.TypeFor[Output]() {
		field.Set(reflect.New(field.Type().Elem()))
		if err := decodeObject(raw, path+".", field.Elem(), p); err != nil {
			p.add("%s: must be an object", path)
			return false
		}
		return true
	}
	value := reflect.New(field.Type())
	if err := json.Unmarshal(raw, value.Interface()); err != nil || !isPair(field.Type(), raw) {
		p.add("%s: must be %s", path, typeName(field.Type()))
		return false
	}
	field.Set(value.Elem())
	return true
}

// isPair refuses lists of another length and with null, which encoding/json
// cuts or fills with zeros.
func isPair(t reflect.Type, raw json.RawMessage) bool {
	if t != reflect.TypeFor[*[2]int]() {
		return true
	}
	var list []*int
	return json.Unmarshal(raw, &list) == nil && len(list) == 2 && list[0] != nil && list[1] != nil
}

func fieldsByName(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	return fields
}

func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Array:
		return "a list of two integers"
	default:
		return "a time such as 2026-12-01T00:00:00Z"
	}
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// printable keeps what is not a plausible field name, and so may be content,
// out of messages.
func printable(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return "(a name that is no field name)"
}

// nearest is the field that a mistyped name is likely to mean, or "".
func nearest(name string, fields map[string]reflect.Value) string {
	best, distance := "", 3
	for field := range fields {
		if d := editDistance(name, field); d < distance || d == distance && best != "" && field < best {
			best, distance = field, d
		}
	}
	return best
}

func suggestion(field string) string {
	if field == "" {
		return ""
	}
	return "; did you mean " + field + "?"
}

// editDistance is Levenshtein's; names longer than any field are far away.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for k := range len(b) {
			cost := diagonal
			if a[i] != b[k] {
				cost++
			}
			diagonal = row[k+1]
			row[k+1] = min(cost, row[k]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
