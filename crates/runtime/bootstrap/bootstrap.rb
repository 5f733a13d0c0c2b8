# Loads a Ruby function and runs it on what the Lambda Runtime API hands out.
# Behaves as AWS's runtime interface client for Ruby. No `net/http`: a plain socket is quicker to load and to use.
# frozen_string_literal: true

require 'json'
require 'socket'

module HawkerRuntime
  API = '/2018-06-01/runtime/'

  # HTTP/1.1 over one kept connection: the server is ours, and always says how long its answers are.
  class Client
    def initialize(address)
      @address = address
      host, port = address.split(':')
      @socket = TCPSocket.new(host, Integer(port))
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    end

    def next_event
      status, headers, body = call('GET', 'invocation/next')
      raise "the Runtime API answered #{status}: #{body}" unless status == 200

      [headers, body]
    end

    def call(method, path, body = nil, headers = {})
      head = "#{method} #{API}#{path} HTTP/1.1\r\nHost: #{@address}\r\n"
      headers.each { |name, value| head << "#{name}: #{value.to_s.tr("\r\n", ' ')}\r\n" }
      head << "Content-Type: application/json\r\nContent-Length: #{body.bytesize}\r\n" if body
      @socket.write(head, "\r\n", body.to_s)
      read_answer
    end

    private

    def read_answer
      status = Integer(line.split[1])
      headers = {}
      until (text = line).empty?
        name, value = text.split(':', 2)
        headers[name.downcase] = value.strip
      end
      [status, headers, @socket.read(Integer(headers['content-length'] || 0))]
    end

    def line
      @socket.gets("\r\n", chomp: true) or raise 'the Runtime API closed the connection'
    end
  end

  # What the handler is given beside its event.
  class Context
    attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name, :function_name,
                :memory_limit_in_mb, :function_version, :identity, :client_context, :deadline_ms

    def initialize(headers)
      @aws_request_id = headers['lambda-runtime-aws-request-id']
      @deadline_ms = Integer(headers['lambda-runtime-deadline-ms'] || 0)
      @invoked_function_arn = headers['lambda-runtime-invoked-function-arn']
      @log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
      @log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']
      @function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
      @memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
      @function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
      context = headers['lambda-runtime-client-context']
      @client_context = JSON.parse(context.dup.force_encoding('UTF-8')) if context
    end

    def get_remaining_time_in_millis
      now = Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond)
      [@deadline_ms - now, 0].max
    end
  end

  module_function

  # `file.method`, or `file.Class.method`.
  def load_handler(name)
    file, *rest = name.split('.')
    raise ArgumentError, "Invalid handler #{name}, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD" unless [1, 2].include?(rest.size)

    Kernel.require(File.expand_path(file, ENV['LAMBDA_TASK_ROOT']))
    receiver = rest.size == 2 ? Kernel.const_get(rest[0]) : TOPLEVEL_BINDING.receiver
    receiver.method(rest.last)
  end

  def error_object(error, phase)
    trace = (error.backtrace || []).reject { |frame| frame.start_with?(__FILE__) }
    { errorMessage: error.message, errorType: "#{phase}<#{error.class}>", stackTrace: trace }
  end

  def report(client, path, error, phase, request_id)
    object = error_object(error, phase)
    if ENV['AWS_LAMBDA_LOG_FORMAT'] == 'JSON'
      entry = { timestamp: Time.now.utc.strftime('%Y-%m-%dT%H:%M:%S.%LZ'), level: 'ERROR', requestId: request_id }
      $stdout.puts(JSON.generate(entry.compact.merge(object)))
    else
      # A carriage return keeps the lines of one record together.
      $stdout.puts("Error raised from handler method\n#{JSON.generate(object)}".tr("\n", "\r"))
    end
    flush
    client.call('POST', path, JSON.generate(object), 'Lambda-Runtime-Function-Error-Type' => object[:errorType])
  end

  def flush
    $stdout.flush
    $stderr.flush
  end

  def run(client, handler)
    loop do
      headers, body = client.next_event
      id = headers['lambda-runtime-aws-request-id']
      ENV['_X_AMZN_TRACE_ID'] = headers['lambda-runtime-trace-id']
      begin
        event = JSON.parse(body.force_encoding('UTF-8'))
        result = handler.call(event: event, context: Context.new(headers))
        answer = JSON.generate(result)
      rescue StandardError, NotImplementedError, LoadError, SyntaxError, SystemStackError => error
        report(client, "invocation/#{id}/error", error, 'Function', id)
      else
        flush
        client.call('POST', "invocation/#{id}/response", answer)
      end
    end
  end

  def main
    $stdout.sync = $stderr.sync = true
    client = Client.new(ENV['AWS_LAMBDA_RUNTIME_API'])
    begin
      handler = load_handler(ENV['_HANDLER'])
    rescue StandardError, LoadError, SyntaxError => error
      report(client, 'init/error', error, 'Init', nil)
      exit 1
    end
    run(client, handler)
  end
end

HawkerRuntime.main
