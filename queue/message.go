package queue

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// message is a task as asynq writes it into Redis. asynq keeps its type
// internal, but registers it, so that what can be read here is exactly what
// asynq can read.
type message struct {
	protoreflect.Message
}

var messageType = func() protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		panic(err) // another version of asynq
	}
	return t
}()

var errMismatch = errors.New("the message is another task's")

func decodeMessage(data string) (message, error) {
	m := message{messageType.New()}
	if err := proto.Unmarshal([]byte(data), m.Interface()); err != nil {
		return m, fmt.Errorf("decode task: %w", err)
	}
	return m, nil
}

// readable reports why asynq could not work with a task: its message cannot
// be decoded, or names another task, whose entries asynq would look for.
func readable(data, queue, id string) error {
	m, err := decodeMessage(data)
	if err != nil {
		return err
	}
	if m.field("id").String() != id || m.field("queue").String() != queue {
		return errMismatch
	}
	return nil
}

// repaired replaces what a producer may have asked of asynq and what would
// lose or repeat work: few retries, after which asynq archives the task with
// its payload; a time limit, after which it gives the task to somebody else
// while it still runs; retention of the payload. Workers have limits of their
// own. It reports false for a message that asynq could not work with.
func repaired(data, queue string) (string, bool) {
	m, err := decodeMessage(data)
	if err != nil || m.field("id").String() == "" || m.field("queue").String() != queue {
		return "", false
	}
	m.set("retry", protoreflect.ValueOfInt32(taskMaxRetry))
	m.set("retried", protoreflect.ValueOfInt32(0))
	m.set("timeout", protoreflect.ValueOfInt64(int64(taskTimeout.Seconds())))
	m.set("deadline", protoreflect.ValueOfInt64(0))
	m.set("retention", protoreflect.ValueOfInt64(0))
	changed, err := proto.Marshal(m.Interface())
	return string(changed), err == nil
}

func (m message) descriptor(name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func (m message) field(name protoreflect.Name) protoreflect.Value { return m.Get(m.descriptor(name)) }

func (m message) set(name protoreflect.Name, v protoreflect.Value) { m.Set(m.descriptor(name), v) }
