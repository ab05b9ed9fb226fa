// Types of agentd.js: what a page imports to follow and start tasks of agents behind an agentd viewer.

/** A state of a task; agents of newer versions may have more. */
export type TaskState =
  | "waiting" | "queued" | "running" | "completed" | "failed" | "timeout" | "cancelled" | (string & {});

/** Why a task ended. */
export interface Cause {
  code: string;
  message: string;
  exit_code?: number | null;
  signal?: number | null;
}

/** A task as its agent answers it, with `agent` added; all fields of the agents' API are there. */
export interface Task {
  agent: string;
  task_id: string;
  session_id: string;
  state: TaskState;
  kind: string;
  spec: Record<string, unknown>;
  name: string | null;
  seq: number;
  attempt: number;
  cause: Cause | null;
  progress: number | null;
  phase: string | null;
  message: string | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  duration_s: number | null;
  [field: string]: unknown;
}

/** A task that nobody vouches for at this moment. */
export interface UnknownTask {
  agent: string | null;
  task_id: string;
  session_id: string | null;
  state: "unknown";
  /** Stable; those of contacts, and `viewer_unreachable`, `task_not_found`, `agent_not_found`, `unauthorized`. */
  reason_code: string;
  /** A sentence. */
  reason: string;
  since: Date;
  /** The task when its agent last answered; never to be shown as how it is. */
  last: Task | null;
}

export type TaskStatus = Task | UnknownTask;

/** How an agent answered this very request. */
export interface Contact {
  agent: string;
  status: "fresh" | "unreachable" | "error" | "unauthorized" | "incompatible" | (string & {});
  reason_code: string | null;
  reason: string | null;
  tried_at: string;
  answered_at: string | null;
  skew_ms: number | null;
  role: string | null;
  url: string;
}

export interface Loss {
  /** null: the viewer itself does not answer, or no longer to this login. */
  agent: string | null;
  reason_code: string;
  reason: string;
  since: Date;
  /** Ids of the tasks that are unknown by it. */
  tasks: string[];
}

/** What each event hands to its listeners. */
export interface TaskEvents {
  /** A task that was active when the manager first heard of its agent. */
  taskRestored: Task;
  /** All agents have answered, and none has an active task. Told at most once by itself. */
  noActiveTask: Record<string, never>;
  /** A task that is new since, whoever started it. */
  taskStarted: Task;
  /** Something of an active task changed, or it became unknown, or is known again. */
  taskProgress: TaskStatus;
  /** It ended as `completed`. */
  taskCompleted: Task;
  /** It ended otherwise: `cause` says why; or it is `unknown` because its agent has it no more. */
  taskError: TaskStatus;
  /** An agent, or the viewer, no longer tells how its tasks are. */
  connectionLost: Loss;
  /** It does again. */
  connectionRestored: { agent: string | null; since: Date };
}

/** What `POST /tasks` of an agent takes. */
export interface NewTask {
  spec: Record<string, unknown>;
  kind?: string;
  session_id?: string;
  name?: string;
  [field: string]: unknown;
}

export interface ManagerOptions {
  /** Where the viewer is, with its path prefix; by default the page's `<meta name="agentd-prefix">`, or the root. */
  baseUrl?: string;
  /** The same. */
  prefix?: string;
  /** Cover one agent only. */
  agent?: string | null;
  /** Cover one session only. */
  session?: string | null;
  /** Milliseconds between looks while there is no stream; default 3000, at least 100. */
  pollingFrequency?: number;
  /** A stream that the page has already; it stays the page's to close. */
  feed?: Connection;
  fetch?: typeof globalThis.fetch;
  /** By default the page's `<meta name="csrf-token">`. */
  csrfToken?: string;
}

export interface History {
  data: Task[];
  /** Whether there are more behind these. */
  more: boolean;
  agents: Contact[];
  /** Whether some agents are unknown: their tasks are missing. */
  partial: boolean;
}

/** What agents or the viewer refused, or why there was no answer. */
export class AgentdError extends Error {
  constructor(status: number, problem: Record<string, unknown> | null);
  /** Of HTTP; 0 when the viewer gave none. */
  status: number;
  code: string;
  agent: string | null;
  reason_code: string;
  errors: { field: string; message: string }[];
}

/** A stream of events that heals by itself: closed while the tab is hidden, reopened when it is seen again.
 *  Dispatches `hello` on every connect, `lost` and `restored`, and the `types` it was made with, as CustomEvents. */
export class Connection extends EventTarget {
  constructor(url: string, types?: string[]);
  readonly types: string[];
  /** Since when the stream is lost; null while it is not. */
  get lostAt(): Date | null;
  /** Whether the stream is there and has said hello. */
  get connected(): boolean;
  close(): void;
}

/** The tasks that are active, followed; what is told is always what agents answered just now. */
export class TaskStateManager {
  static EVENTS: (keyof TaskEvents)[];
  constructor(options?: ManagerOptions);
  prefix: string;
  agent: string | null;
  session: string | null;
  pollingFrequency: number;
  fetch: typeof globalThis.fetch;
  csrfToken: string | null;
  /** The active tasks as last heard of, newest first; those that nobody vouches for are `unknown`. */
  get tasks(): TaskStatus[];
  /** Follow the tasks; tells each that is active. */
  initialize(): Promise<TaskStatus[]>;
  /** The newest active task, or the one of this id as it is now; null when there is none. */
  restoreActiveTask(taskId?: string): Promise<TaskStatus | null>;
  /** Start a task, once, however often it had to be sent. @throws {AgentdError} */
  startTask(task: string | NewTask, options?: { agent?: string; key?: string }): Promise<Task>;
  /** Ask a task to stop; one that has ended already is no error. @throws {AgentdError} */
  stopTask(taskId: string, options?: { agent?: string }): Promise<TaskStatus>;
  /** A task as its agent answers now. Never throws. */
  getTaskStatus(taskId: string, options?: { agent?: string; session?: string }): Promise<TaskStatus>;
  /** Tasks, newest first; `limit + offset` is at most 10,000. @throws {AgentdError | RangeError} */
  getJobHistory(options?: {
    limit?: number;
    offset?: number;
    job_type?: string;
    status?: TaskState | TaskState[];
  }): Promise<History>;
  /** Emergency: end all that is live at the agent, replace its workers. Takes an admin. @throws {AgentdError} */
  resetAgentState(options?: { agent?: string }): Promise<Record<string, unknown>>;
  /** Gives what takes the listener off again. */
  on<K extends keyof TaskEvents>(type: K, listener: (detail: TaskEvents[K]) => void): () => void;
  off<K extends keyof TaskEvents>(type: K, listener: (detail: TaskEvents[K]) => void): void;
  emit<K extends keyof TaskEvents>(type: K, detail: TaskEvents[K]): void;
  /** Look now; done when what was true after the call is told. */
  refresh(): Promise<void>;
  /** Follow nothing any more. */
  close(): void;
}
